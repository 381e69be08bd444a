//! By which comparisons of the clocks times of the wall were made.

use super::wall::is_step;

/// How far the wall clock was ahead of the clock of deadlines when times were made, at the least and at the
/// most, in nanoseconds. They may reach a file when it stands otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeBy {
    least: i64,
    most: i64,
}

impl MadeBy {
    /// There is no time yet.
    pub(crate) const NONE: Self = Self {
        least: i64::MAX,
        most: i64::MIN,
    };

    pub(crate) fn one(ahead: i64) -> Self {
        let (least, most) = (ahead, ahead);
        Self { least, most }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// Whether the clock was set in between, for one of them.
    pub(crate) fn is_step_from(self, ahead: i64) -> bool {
        let is_any = self.least <= self.most;
        is_any && (is_step(self.least, ahead) || is_step(self.most, ahead))
    }
}

impl Default for MadeBy {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::persist::wall::STEP;

    #[test]
    fn the_farthest_of_all_says_whether_the_clock_was_set() {
        let step = STEP.as_nanos() as i64;
        let mut made_by = MadeBy::NONE;
        assert!(!made_by.is_step_from(i64::MIN) && !made_by.is_step_from(i64::MAX));
        for (ahead, expected) in [(3, false), (4 - step, false), (3 - step, true), (4, true)] {
            made_by.add(MadeBy::one(ahead));
            made_by.add(MadeBy::NONE);
            assert_eq!(made_by.is_step_from(4), expected, "{ahead}");
        }
        assert!(MadeBy::one(3 + step + 1).is_step_from(3));
    }
}
