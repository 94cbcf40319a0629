//! The measure of accuracy: error / (eps (1 + L + log2 max(n, m)) Σ), with Σ the same sums over absolute values, and L
//! the largest logit with absolute values in its sum (docs/math.md, equation 5.13).

use attngrad::reference::Reference;
use attngrad::{Float, Wrt};
use ndarray::{Array2, Axis};

/// Upper limit of the ratio, as in LAPACK's tests: a few roundings per step, with room for the worst entry of many.
pub const BAR: f64 = 30.0;

/// The growth of errors that the measure forgives.
pub fn growth(reference: &Reference) -> f64 {
    let abs = |array: Array2<f64>| array.mapv_into(f64::abs);
    let (queries, keys) = match &reference.pair {
        None => (reference.A1.dot(&reference.X), reference.A2.clone()),
        Some((W_Q, W_K)) => (reference.A1.dot(W_Q), reference.A2.dot(W_K)),
    };
    let logits = abs(queries).dot(&abs(keys).t());
    let largest = reference.scale.abs() * logits.iter().fold(0.0, |max: f64, &s| max.max(s));
    1.0 + largest + (reference.S.nrows().max(reference.S.ncols()).max(1) as f64).log2()
}

/// The problem with every term of every sum made positive; f is kept.
pub fn absolute(reference: &Reference) -> Reference {
    let abs = |array: &Array2<f64>| array.mapv(f64::abs);
    let pair = reference.pair.as_ref().map(|(W_Q, W_K)| (abs(W_Q), abs(W_K)));
    let X = pair.as_ref().map_or_else(|| abs(&reference.X), |(W_Q, W_K)| W_Q.dot(&W_K.t()));
    let (A3, Y) = (abs(&reference.A3), abs(&reference.Y));
    let h = A3.dot(&Y);
    let o = reference.f.dot(&h);
    let given = abs(&reference.E);
    let c = if reference.is_target { &o + &given } else { given };
    let r = (&c * &o).sum_axis(Axis(1)).insert_axis(Axis(1));
    let p = &reference.f * &(c.dot(&h.t()) + r);
    let loss = 0.5 * c.iter().map(|x| x * x).sum::<f64>();
    let (A1, A2, scale) = (abs(&reference.A1), abs(&reference.A2), reference.scale.abs());
    Reference { A1, A2, A3, X, pair, Y, c, p, loss, scale, ..reference.clone() }
}

/// The largest ratio over the entries of `got`; infinite where one is not a number.
///
/// Weights from [`Float::EXP2_MIN`] down are zero, which no relative measure forgives: `floor` is what an entry may
/// lose to that.
pub fn ratio<T: Float>(got: &Array2<T>, want: &Array2<f64>, sums: &Array2<f64>, growth: f64, floor: f64) -> f64 {
    assert_eq!(got.dim(), want.dim(), "the shape of the result");
    let eps = 2.0 * T::UNIT_ROUNDOFF;
    let mut worst = 0.0;
    for ((got, want), sum) in got.iter().zip(want).zip(sums) {
        let error = ((got.widen() - want).abs() - floor).max(0.0);
        let ratio = if got.widen().is_nan() || want.is_nan() {
            f64::INFINITY
        } else if error == 0.0 {
            0.0
        } else {
            error / (eps * growth * sum)
        };
        worst = f64::max(worst, ratio);
    }
    worst
}

/// Upper bound of the change that dropped weights can make in an entry of a gradient: n m of them at most, each times
/// the largest of its factors.
pub fn floor<T: Float>(absolute: &Reference) -> f64 {
    let largest = |array: &Array2<f64>| array.iter().fold(1.0, |max: f64, &x| max.max(x));
    let sizes = [&absolute.A1, &absolute.A2, &absolute.A3, &absolute.X, &absolute.Y, &absolute.c, &absolute.c]
        .map(|array| largest(array) * array.ncols().max(1) as f64);
    let count = absolute.f.len().max(1) as f64;
    (T::EXP2_MIN.widen() + 1.0).exp2() * count * absolute.scale.max(1.0) * sizes.iter().product::<f64>()
}

/// Asserts that dL/d`wrt` is right.
pub fn assert_gradient<T: Float>(got: &Array2<T>, reference: &Reference, wrt: Wrt, what: &str) -> f64 {
    let absolute = absolute(reference);
    let want = reference.gradient(wrt).expect("the reference has it");
    let sums = absolute.gradient(wrt).expect("the reference has it");
    let ratio = ratio(got, &want, &sums, growth(reference), floor::<T>(&absolute));
    assert!(ratio <= BAR, "dL/d{} of {what}: ratio {ratio}", wrt.name());
    ratio
}

/// Asserts that the loss is right.
pub fn assert_loss<T: Float>(got: f64, reference: &Reference, what: &str) {
    let absolute = absolute(reference);
    let scale = 2.0 * T::UNIT_ROUNDOFF * growth(reference) * absolute.loss;
    let error = (got - reference.loss).abs();
    assert!(error <= BAR * scale, "the loss of {what}: {got}, {} wanted", reference.loss);
}
