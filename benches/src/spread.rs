//! Figures of several rounds summed up.

use serde::Serialize;

/// The middle of several rounds' figures, and how far they lie apart.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Sums figures up; of none, all are zero.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let at = |at: usize| figures.get(at).copied().unwrap_or_default();
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Self { median, min: at(0), max: at(figures.len().saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_lies_between_the_two_in_the_middle() {
        let spread = Spread::of([4.0, 1.0, 2.0, 9.0]);
        assert_eq!([spread.median, spread.min, spread.max].map(f64::to_bits), [3.0, 1.0, 9.0].map(f64::to_bits));
        assert_eq!(Spread::of([2.0, 7.0, 5.0]).median.to_bits(), 5.0_f64.to_bits());
    }
}
