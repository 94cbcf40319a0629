//! Sums of integers: taken where they are worth it and nowhere else, and charged for their error.

use attngrad::{Approximation, Float, Level, Options, PolynomialGradients, Wrt, polynomial_gradient};

use super::cases::{Case, norm};
use super::passes::entries;

/// In single precision, what else differs between two ways to the same sums, relative to the result.
const ROUNDING: f64 = 1e-6;

/// A charge is a worst case, of which signs leave little; it is at most this many times what P itself is charged.
const SHARE: f64 = 20.0;

/// Entries of which logits are about a fifth, so that a term is a sixteenth of the one before it at degree 2.
const WIDE: f64 = 1.5;

fn both<T: Float>(case: &Case<T>, given: &Approximation, level: Level, wrt: &[Wrt]) -> [PolynomialGradients<T>; 2] {
    let options = Options { level: Some(level), ..Options::default() };
    [false, true].map(|integers| {
        let approximation = Approximation { integers, ..given.clone() };
        polynomial_gradient(&case.problem(), wrt, &approximation, &options, None).expect("a regular problem")
    })
}

fn same<T: Float>(case: &(Case<T>, Approximation), level: Level, wrt: &[Wrt]) -> bool {
    let [without, with] = both(&case.0, &case.1, level, wrt);
    without.gradients == with.gradients && without.bounds == with.bounds
}

/// Whether a processor of this level multiplies 16-bit integers faster than numbers in single precision.
fn has_integers(level: Level) -> bool {
    matches!(level, Level::Avx2 | Level::Avx512)
}

#[test]
fn only_where_they_are_worth_it() {
    for level in Level::available() {
        let x = [Wrt::X];
        assert_eq!(same(&entries::<f32>(300, WIDE, 2), level, &x), !has_integers(level), "{level}");
        assert_eq!(same(&entries::<f32>(300, WIDE, 3), level, &x), !has_integers(level), "{level}");
        // Small logits, whose next term is no larger than the error of integer sums.
        assert!(same(&entries::<f32>(300, 0.25, 2), level, &x));
        // Of moments of the second grade the covariance of the keys is made.
        assert!(same(&entries::<f32>(300, WIDE, 1), level, &x));
        assert!(same(&entries::<f64>(300, WIDE, 2), level, &x));
        // Neither o nor what is summed of it has terms of the highest grade.
        assert!(same(&entries::<f32>(300, WIDE, 2), level, &[Wrt::Y, Wrt::A3]));
    }
}

#[test]
fn what_they_lose_is_within_what_is_charged_and_not_far_from_it() {
    let levels = Level::available().into_iter().filter(|&level| has_integers(level));
    let cases = [(5, WIDE, 2), (300, WIDE, 2), (300, 1.0, 2), (300, 1.2, 3)];
    for (level, (n, size, degree)) in levels.flat_map(|level| cases.map(|case| (level, case))) {
        let (case, approximation) = entries::<f32>(n, size, degree);
        for pair in [false, true] {
            let mut case = case.clone();
            case.pair = pair;
            for given in [false, true] {
                case.given = given;
                let all = case.inputs();
                // The weights alone are a contraction of moments, and with others a sum over rows.
                for wrt in [&all[..1], &all[..]] {
                    let [without, with] = both(&case, &approximation, level, wrt);
                    assert_eq!(without.loss, with.loss);
                    for (i, &one) in wrt.iter().enumerate() {
                        let [before, after] = [&without, &with].map(|result| &result.gradients[i].1);
                        let lost = norm(&(after - before).mapv(f64::from));
                        let charged = with.bounds[i].absolute() - without.bounds[i].absolute();
                        let what =
                            format!("{one:?} of n={n} size={size} degree={degree} pair={pair} given={given} {level}");
                        let rounding = ROUNDING * norm(&before.mapv(f64::from));
                        assert!(lost <= charged + rounding, "{what}: lost {lost:e}, charged {charged:e}");
                        if !matches!(one, Wrt::Y | Wrt::A3) {
                            let truncation = with.bounds[i].truncation;
                            assert!(charged <= SHARE * truncation, "{what}: charged {charged:e} beside {truncation:e}");
                        }
                    }
                }
            }
        }
    }
}
