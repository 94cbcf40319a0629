//! A diagnosis: its figures, and the words for them.

use std::fmt;

use super::decision::{Decision, Method};

/// The planner's answer to one accuracy, and the error estimates from the sampled logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The accuracy.
    pub rtol: f64,
    /// The decision for it.
    pub decision: Decision,
    /// Smallest degree whose polynomial is within `rtol` of exp on the sampled logits, eq. (10.7), whatever it costs;
    /// none where none up to 10 is.
    pub smallest_degree: Option<usize>,
    /// The error of that degree; without one, the least that was reached.
    pub least_error: f64,
}

/// Whether a near-linear method serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Regime {
    /// It is planned for an error of 0.01.
    NearLinear,
    /// It is planned for an error of 0.1 only.
    Borderline,
    /// It is planned for neither.
    Exact,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Regime::NearLinear => "near-linear",
            Regime::Borderline => "borderline",
            Regime::Exact => "exact",
        })
    }
}

/// Statistics of queries and keys, and the planner's answers for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// n.
    pub queries: usize,
    /// m.
    pub keys: usize,
    /// E, the width of both.
    pub width: usize,
    /// s.
    pub scale: f64,
    /// Largest entry of a query in absolute value.
    pub largest_query: f64,
    /// Largest entry of a key in absolute value.
    pub largest_key: f64,
    /// The paper's B, √(|s| E · largest query · largest key): no logit exceeds B².
    pub bound: f64,
    /// B / √(log n): the paper's near-linear algorithm requires it to be small.
    pub threshold_ratio: f64,
    /// No logit of centred queries and keys exceeds it.
    pub logit_bound: f64,
    /// Standard deviation of the centred logits, as sampled.
    pub logit_std: f64,
    /// Smallest and largest of the sampled centred logits.
    pub logit_range: (f64, f64),
    /// Second moments of the balanced coordinates, falling; their squares add up to the mean square of the logits.
    pub spectrum: Vec<f64>,
    /// (Σ σ²)² / Σ σ⁴ of the spectrum σ: how many directions carry the logits.
    pub effective_rank: f64,
    /// One for each accuracy, from rough to fine.
    pub predictions: Vec<Prediction>,
    /// Whether a near-linear method serves.
    pub regime: Regime,
    /// The obstacles, in words.
    pub findings: Vec<String>,
    /// The remedy, in words.
    pub advice: String,
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { method, degree, features, predicted_error, reason, .. } = &self.decision;
        match method {
            Method::Exact => write!(f, "exact: {reason}"),
            method => write!(
                f,
                "{}, degree {degree} with {features} features, error about {predicted_error:.1e}",
                method.name()
            ),
        }
    }
}

/// All of it as text, one item a line.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |title: &str, text: String| writeln!(f, "{title:18}{text}");
        let (low, high) = self.logit_range;
        let Diagnosis { queries, keys, width, .. } = self;
        line("sizes", format!("{queries} queries, {keys} keys, width {width}, scale {}", general(self.scale, 6)))?;
        let (bound, ratio) = (general(self.bound, 3), general(self.threshold_ratio, 3));
        line("entries", format!("B = {bound}, B / sqrt(log n) = {ratio}"))?;
        let [std, low, high, most] = [self.logit_std, low, high, self.logit_bound].map(|x| general(x, 3));
        line("centred logits", format!("standard deviation {std}, sampled from {low} to {high}, at most {most}"))?;
        line("effective rank", format!("{} of {width}", general(self.effective_rank, 3)))?;
        for one in &self.predictions {
            line(&format!("rtol {}", general(one.rtol, 6)), one.to_string())?;
        }
        line("regime", self.regime.to_string())?;
        for text in &self.findings {
            line("finding", text.clone())?;
        }
        write!(f, "{:18}{}", "advice", self.advice)
    }
}

/// A number with so many significant digits, as short as they go.
pub(super) fn general(x: f64, digits: usize) -> String {
    let scientific = format!("{x:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match exponent.parse::<i32>() {
        Ok(power) if (-4..digits as i32).contains(&power) => {
            trimmed(&format!("{x:.*}", (digits as i32 - 1 - power).max(0) as usize))
        }
        _ => format!("{}e{exponent}", trimmed(mantissa)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_go() {
        for (x, digits, text) in [
            (0.01, 3, "0.01"),
            (1.0 / 3.0, 2, "0.33"),
            (123.456, 3, "123"),
            (9.996, 3, "10"),
            (1234.5, 3, "1.23e3"),
            (1e30, 3, "1e30"),
            (-0.00001234, 2, "-1.2e-5"),
            (0.0, 3, "0"),
            (f64::INFINITY, 3, "inf"),
        ] {
            assert_eq!(general(x, digits), text);
        }
    }
}
