//! Gradients in half precision, whose rounding is in their certificates.

use super::request::{Certificate, Norm, Request};
use super::solution::Solution;
use crate::error::Error;
use crate::linalg::halves::{Half, Halved};

impl Solution<f32> {
    /// The bits of each gradient in half precision. From then on its certificate is that of what they stand for: the
    /// error of rounding is measured, and judged with the rest. `names` are those of the gradients, for errors.
    ///
    /// ```
    /// use attngrad::{Half, Problem, Request, Weights, Wrt, loss_gradient};
    /// use ndarray::Array2;
    ///
    /// let matrix = |a: f32| Array2::from_shape_fn((4, 4), |(j, i)| (a * (4 * j + i + 1) as f32).sin());
    /// let (x, y, e) = (matrix(0.3), matrix(0.5), matrix(0.7));
    /// let problem =
    ///     Problem::new(x.view(), x.view(), x.view(), Weights::Product(y.view()), y.view(), e.view())?;
    /// let mut found = loss_gradient(&problem, &[Wrt::X], &Request::default())?;
    /// let single = found.gradients[0].certificate.absolute;
    /// let bits = found.halved(Half::Float16, &["X"], &Request::default())?;
    /// assert_eq!(bits[0].len(), 16);
    /// assert!(found.gradients[0].certificate.absolute > single);
    /// # Ok::<(), attngrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Range`] where a number is too large; [`Error::OutOfMemory`].
    pub fn halved(&mut self, half: Half, names: &[&str], request: &Request) -> Result<Vec<Vec<u16>>, Error> {
        let mut bits = Vec::with_capacity(self.gradients.len());
        for (one, name) in self.gradients.iter_mut().zip(names) {
            let numbers = one.value.as_slice().ok_or_else(|| Error::Internal("a gradient is not row-major".into()))?;
            let found = half.halved(numbers, &format!("the gradient with respect to {name}"), &request.options)?;
            one.certificate = one.certificate.halved(&found, request);
            bits.push(found.bits);
        }
        Ok(bits)
    }
}

impl Certificate {
    /// The certificate of an array that was rounded to half precision: the error of that is measured, and judged with
    /// the rest.
    pub fn halved(&self, found: &Halved, request: &Request) -> Certificate {
        let [size, rounding] = match request.norm {
            Norm::Frobenius => found.norm,
            Norm::Largest => found.largest,
        };
        let &Certificate { kind, truncation, sampling, confidence, .. } = self;
        let terms = [truncation, sampling, self.rounding + rounding];
        Certificate { confidence, ..Certificate::new(request, kind, terms, size) }
    }
}
