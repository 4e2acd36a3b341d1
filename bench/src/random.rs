//! Chance that can be repeated.

/// SplitMix64 (Steele, Lea and Flood 2014): numbers that are even enough to choose by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn below_i64(&mut self, bound: i64) -> i64 {
        (self.next() % bound.unsigned_abs()).cast_signed()
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}

/// Who is asked for, by Zipf's law: the second half as often as the first, the third a third as often.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Of each, its share and that of all before it.
    shares: Vec<f64>,
}

impl Zipf {
    /// Over `0..count`, the first of which is asked for most.
    pub fn over(count: usize) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= sum);
        Self { shares }
    }

    pub fn choose(&self, random: &mut Random) -> usize {
        let share = random.next() as f64 / u64::MAX as f64;
        self.shares.partition_point(|upto| *upto < share).min(self.shares.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_asked_for_twice_as_often_as_the_second_and_the_last_is_asked_for_too() {
        let (zipf, mut random) = (Zipf::over(10), Random::new(1));
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[zipf.choose(&mut random)] += 1;
        }
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&ratio), "{counts:?}");
        assert!(counts[9] > 3000, "{counts:?}");
    }
}
