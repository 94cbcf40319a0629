//! The polynomial method for a c that is given in place of a residual: the vector-Jacobian product of attention.

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::plan::{Asked, Norm, Request, Solution, Start, Wanted, solve};
use attngrad::{Error, Float, Heads, Level, Options, Polynomial, Wrt, exact_rows, polynomial_gradient};
use ndarray::Array2;

use crate::data::{Case, Family, Rng, Shape};
use crate::moments::{BLOCK, check_problem, small, taylor};

const BY_TOKEN: [Wrt; 3] = [Wrt::A1, Wrt::A2, Wrt::A3];

/// A head: X and Y are identities, and E is dout.
fn head<T: Float>(n: usize, m: usize, is_causal: bool, size: f64) -> Case<T> {
    let (d, dv) = (3, 5);
    let mut rng = Rng::new(9);
    let mut matrix = |rows, columns, size: f64| rng.matrix::<T>(rows, columns).mapv(|x| T::narrow(x.widen() * size));
    Case {
        A1: matrix(n, d, size),
        A2: matrix(m, d, size),
        A3: matrix(m, dv, 1.0),
        X: Array2::eye(d),
        pair: None,
        Y: Array2::eye(dv),
        E: matrix(n, dv, 1.0),
        scale: 1.0 / (d as f64).sqrt(),
        is_causal,
    }
}

fn request(degree: usize) -> Request {
    Request {
        wanted: Wanted::Polynomial(Some(degree)),
        rtol: None,
        atol: 0.0,
        norm: Norm::Frobenius,
        asked: Asked::Any,
        seed: Some(0),
        ..Request::default()
    }
}

fn planned<T: Float>(case: &Case<T>, degree: usize) -> Solution<T> {
    let problem = case.problem().with_incoming();
    solve(&problem, &BY_TOKEN, &request(degree), Start::Fresh, None).expect("a regular head")
}

fn exact<T: Float>(case: &Case<T>) -> [Array2<T>; 3] {
    let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
    let heads = heads.with_scale(case.scale).with_causal(case.is_causal);
    let result = attention_vjp(&heads, case.E.view(), &Options::default(), None).expect("a regular head");
    [result.query.0, result.key.0, result.value.0]
}

fn distance<T: Float>(a: &Array2<T>, b: &Array2<T>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a.widen() - b.widen()).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn the_dense_formula_to_rounding() {
    let shapes = [
        Shape { n: 37, m: 53, d1: 5, d2: 7, d3: 3, dv: 6, pair: None },
        Shape { n: 53, m: 20, d1: 2, d2: 3, d3: 4, dv: 1, pair: Some(3) },
        Shape { n: BLOCK + 9, m: 2 * BLOCK + 5, d1: 2, d2: 2, d3: 2, dv: 2, pair: None },
    ];
    for level in Level::available() {
        for (shape, is_causal) in shapes.into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
            for (family, degree) in [(Family::Uniform, 2), (Family::LargeUnits, 3), (Family::SmallUnits, 1)] {
                let what = format!("given c, {shape:?}, {family:?}, causal {is_causal}");
                let single = Case { is_causal, ..small::<f32>(shape, family, 5) };
                let double = Case { is_causal, ..small::<f64>(shape, family, 5) };
                let all = single.inputs();
                check_problem(&single.problem().with_incoming(), &all, &taylor(degree), level, &what);
                check_problem(&double.problem().with_incoming(), &all, &taylor(degree), level, &what);
            }
        }
    }
}

#[test]
fn degrees_converge_to_the_exact_product() {
    for is_causal in [false, true] {
        let case = head::<f64>(700, 600, is_causal, 0.7);
        let want = exact(&case);
        let errors = [1, 3, 6, 12].map(|degree| {
            let got = planned(&case, degree);
            got.gradients.iter().zip(&want).map(|(got, want)| distance(&got.value, want)).fold(0.0, f64::max)
        });
        assert!(errors.windows(2).all(|pair| pair[1] < pair[0] / 10.0), "{errors:?}");
        assert!(errors[3] < 1e-9, "{errors:?}");
    }
}

#[test]
fn certificates_hold_and_say_something() {
    for degree in [1, 2, 4] {
        let case = head::<f64>(300, 200, false, 0.4);
        let want = exact(&case);
        for (got, want) in planned(&case, degree).gradients.iter().zip(&want) {
            let (error, certificate) = (distance(&got.value, want), &got.certificate);
            let what = format!("{} of degree {degree}: {error:e}, {certificate:?}", got.wrt.name());
            assert!(error <= certificate.absolute && certificate.absolute < 1e3 * error + 1e-9, "{what}");
            assert_eq!(certificate.reached, None, "{what}");
        }
    }
}

/// Powers of two pass through bit for bit, bounds with them.
#[test]
fn linear_in_what_is_given() {
    for is_causal in [false, true] {
        for power in [-90, -20, 20, 60] {
            let unit = f64::from(power).exp2() as f32;
            let case = head::<f32>(300, 280, is_causal, 0.4);
            let scaled = Case { E: case.E.mapv(|x| x * unit), ..case.clone() };
            for (one, two) in planned(&case, 2).gradients.iter().zip(&planned(&scaled, 2).gradients) {
                assert_eq!(one.value.mapv(|x| x * unit), two.value, "{} at 2^{power}", one.wrt.name());
                let (one, two) = (one.certificate.absolute * f64::from(unit), two.certificate.absolute);
                assert!(one == two || (one - two).abs() <= 1e-6 * one, "{one:e} and {two:e} at 2^{power}");
            }
        }
    }
}

#[test]
fn rows_beyond_the_polynomial_are_computed_apart() {
    let mut case = head::<f64>(200, 150, false, 0.3);
    case.A1.row_mut(17).mapv_inplace(|x| x.signum() * 1e4);
    let problem = case.problem().with_incoming();
    let approximation = taylor(3);
    let result = polynomial_gradient(&problem, &BY_TOKEN, &approximation, &Options::default(), None).expect("regular");
    assert_eq!(result.unsafe_rows, [17]);
    let fit = Polynomial::fit(&problem, &approximation, &Options::default(), None).expect("regular");
    let fitted = fit.rows(&problem, &[3, 17], &Options::default(), None).expect("regular");
    assert_eq!(fitted.unsafe_rows, [1]);
    let want = exact(&case);
    let rows = exact_rows(&problem, &[17, 4], &Options::default(), None).expect("regular");
    for (place, row) in [17, 4].into_iter().enumerate() {
        let of = |array: &Array2<f64>| array.row(row).to_owned();
        let difference = case.scale * &rows.w.row(place) - of(&want[0]);
        assert!(difference.iter().all(|x| x.abs() < 1e-13), "row {row}: {difference}");
    }
    let got = planned(&case, 3);
    for (got, want) in got.gradients.iter().zip(&want) {
        let error = distance(&got.value, want);
        assert!(error <= got.certificate.absolute, "{}: {error:e}, {:?}", got.wrt.name(), got.certificate);
    }
    let apart = distance(&got.gradients[0].value, &want[0]);
    assert!(apart < 1e-2, "{apart:e}");
}

#[test]
fn the_exact_method_takes_it_too() {
    let case = head::<f64>(60, 50, true, 1.0);
    let result = loss_gradient(&case.problem().with_incoming(), &BY_TOKEN, &Options::default(), None).expect("regular");
    assert_eq!(result.loss, 0.0);
    for (got, want) in result.gradients.iter().zip(&exact(&case)) {
        assert!(distance(&got.value, want) < 1e-13, "{}", got.wrt.name());
    }
}

#[test]
fn moments_of_the_other_form_are_refused() {
    let case = head::<f64>(20, 20, false, 0.3);
    let fit = Polynomial::fit(&case.problem(), &taylor(2), &Options::default(), None).expect("regular");
    let refused = fit.gradient(&case.problem().with_incoming(), &BY_TOKEN, &Options::default(), None);
    assert!(matches!(refused, Err(Error::Option { option: "is_target", .. })), "{refused:?}");
}
