//! The error of a row, in parts that line up with those of other rows in different ways.

/// An error of a row by what it hangs on: the row's own logits and c_j; the last bits of c_j; c_j and what all rows
/// share, or the row of f A3; and not on c_j, but its own logits, what all rows share, or the row of f A3.
#[derive(Default)]
pub struct Parts {
    pub logits: f64,
    pub own: f64,
    pub shared: f64,
    pub mixed: f64,
    pub output: f64,
    pub output_shared: f64,
    pub output_mixed: f64,
    /// An error's own square, which hides in no direction.
    pub square: f64,
}

impl Parts {
    pub fn total(&self) -> f64 {
        self.logits + self.own + self.shared + self.mixed + self.output + self.output_shared + self.output_mixed
    }
}
