//! Sums of integers against sums in double precision, and one instruction set against the other.

use super::*;
use crate::features::Monomials;
use crate::simd::Portable;

/// Blocks in the order of the kernels with AVX2, and with AVX-512.
type Narrow = Block<8, 16, 6>;
type Wide = Block<16, 32, 12>;

/// Least share of a bound that some sum must reach: both integers of a product rarely have their largest error at once.
const NEAR: f64 = 0.4;

/// Deterministic numbers in [−1, 1].
fn number(seed: usize) -> f32 {
    (0.7 * (seed as f32 + 1.0).powi(2)).sin()
}

/// A block of `count` rows, in the order of tiles of two registers of `W` by `J`.
struct Block<const W: usize, const L: usize, const J: usize> {
    tree: Monomials,
    x: Vec<[f32; C]>,
    parents: Vec<[f32; C]>,
    rhs: Rhs<f32>,
    rows: Vec<f32>,
    count: usize,
}

impl<const W: usize, const L: usize, const J: usize> Block<W, L, J> {
    fn new(dimension: usize, grade: usize, width: usize, count: usize) -> Self {
        let tree = Monomials::new(dimension, grade).expect("few monomials");
        let mut x = vec![[0.0; C]; dimension];
        for (i, column) in x.iter_mut().enumerate() {
            for (r, x) in column[..count].iter_mut().enumerate() {
                *x = 10f32.powi(i as i32 % 3 - 1) * number(r * 31 + i);
            }
        }
        let mut features = vec![[0.0; C]; tree.inner() + J];
        features[0][..count].fill(1.0);
        for (index, &(parent, coordinate)) in tree.steps()[..tree.inner()].iter().enumerate().skip(1) {
            features[index] = std::array::from_fn(|r| features[parent as usize][r] * x[coordinate as usize][r]);
        }
        let rows: Vec<f32> = (0..C * width).map(|i| 5.0 * number(i + 7)).collect();
        let mut rhs = Rhs::<f32>::new::<W>(width).expect("a small buffer");
        rhs.set_rows::<W, L>(&rows);
        let parents = features[tree.parents().start..].to_vec();
        Block { tree, x, parents, rhs, rows, count }
    }

    fn set(&self, integers: &mut Quantized<f32>) -> bool {
        self.set_in::<Portable<f32, W>>(integers)
    }

    #[inline(always)]
    fn set_in<V: Vector<f32, W>>(&self, integers: &mut Quantized<f32>) -> bool {
        let (tree, rows) = (&self.tree, (self.count, self.tree.grades()));
        integers.set::<V, W>(&self.x, &self.parents, &self.rhs, rows, |largest, to| tree.bounds(largest, to))
    }

    fn integers(&self) -> Quantized<f32> {
        Quantized::new::<W, J>(self.tree.grade(1).len(), self.tree.parents().len(), self.rhs.width())
            .expect("a small buffer")
    }

    /// The sums of all leaves.
    #[inline(always)]
    fn sums<V: Vector<f32, W>>(&self, integers: &mut Quantized<f32>) -> Vec<f64> {
        let (tree, width) = (&self.tree, self.rhs.width());
        assert!(self.set_in::<V>(integers));
        let mut sums = vec![1.0; (tree.count() - tree.inner()) * width];
        for (coordinate, leaves) in tree.leaves().enumerate() {
            integers.scale::<V, W>(&self.x[coordinate], coordinate);
            let sums = &mut sums[(leaves.start - tree.inner()) * width..];
            integers.accumulate::<V, W, L, J>(&self.rhs, leaves.len(), sums);
        }
        sums
    }

    /// The largest error over its bound, of all sums.
    fn check(&self) -> f64 {
        let (tree, width) = (&self.tree, self.rhs.width());
        let mut integers = self.integers();
        let sums = self.sums::<Portable<f32, W>>(&mut integers);
        let largest = |column: &[f32]| column.iter().fold(0.0, |max: f64, x| max.max(f64::from(x.abs())));
        let mut nearest = 0.0f64;
        let mut size = 0.0;
        for (coordinate, leaves) in tree.leaves().enumerate() {
            for (i, leaf) in leaves.enumerate() {
                let mut bound = largest(&self.x[coordinate]);
                let mut at = tree.steps()[leaf].0 as usize;
                while at > 0 {
                    let (parent, coordinate) = tree.steps()[at];
                    bound *= largest(&self.x[coordinate as usize]);
                    at = parent as usize;
                }
                for column in 0..width {
                    let term = |r: usize| {
                        f64::from(self.parents[i][r])
                            * f64::from(self.x[coordinate][r])
                            * f64::from(self.rows[r * width + column])
                    };
                    let want = 1.0 + (0..self.count).map(term).sum::<f64>();
                    let values: Vec<f32> = (0..C).map(|r| self.rows[r * width + column]).collect();
                    let most = LOST * self.count as f64 * bound * largest(&values);
                    let error = (sums[(leaf - tree.inner()) * width + column] - want).abs();
                    assert!(error <= most + 1e-12, "{error:e} {most:e}");
                    nearest = nearest.max(error / most);
                    size += (most / LOST).powi(2);
                }
            }
        }
        // The bound of all of them together counts each as often as its factors can be ordered.
        let often: f64 = (1..=tree.grades()).map(|k| k as f64).product();
        let between = (1.0 - 1e-6) * size.sqrt()..=(1.0 + 1e-6) * (often * size).sqrt();
        assert!(between.contains(&integers.lost), "{:e} {between:?}", integers.lost);
        nearest
    }
}

#[test]
fn sums_are_within_their_bound_and_not_far_from_it() {
    let mut nearest = 0.0f64;
    for (dimension, grade) in [(1, 3), (3, 4), (9, 3), (16, 3)] {
        for width in [1, 2, 3, 4, 8, 9, 17] {
            for count in [1, 7, C / 2, C - 1, C] {
                nearest = nearest.max(Narrow::new(dimension, grade, width, count).check());
                nearest = nearest.max(Wide::new(dimension, grade, width, count).check());
            }
        }
    }
    assert!(nearest >= NEAR, "{nearest}");
}

#[test]
fn the_largest_products_fit() {
    let mut block = Narrow::new(2, 3, 3, C);
    block.x.iter_mut().for_each(|column| *column = [3.0; C]);
    block.parents.iter_mut().for_each(|column| *column = [9.0; C]);
    block.rows.fill(-1e10);
    block.rhs.set_rows::<8, 16>(&block.rows);
    assert!(block.check().is_finite());
}

#[test]
fn what_is_no_number_or_has_no_reciprocal_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 64.0] {
        for row in [0, 100, C - 1] {
            for column in 0..3 {
                let mut block = Narrow::new(2, 3, 3, C);
                block.rows = vec![0.0; 3 * C];
                block.rows[row * 3 + column] = bad;
                block.rhs.set_rows::<8, 16>(&block.rows);
                let fits = bad == f32::MAX;
                assert_eq!(block.set(&mut block.integers()), fits, "rhs {bad}");
            }
            let mut block = Narrow::new(2, 3, 3, C);
            block.x[1] = [0.0; C];
            block.x[1][row] = bad;
            assert!(!block.set(&mut block.integers()), "coordinate {bad}");
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    let mut block = Narrow::new(3, 3, 4, C);
    block.x[1] = [0.0; C];
    block.rows.fill(0.0);
    block.rhs.set_rows::<8, 16>(&block.rows);
    let mut integers = block.integers();
    assert!(block.set(&mut integers));
    integers.scale::<Portable<f32, 8>, 8>(&block.x[1], 1);
    let mut sums = vec![0.0; 3 * 4];
    integers.accumulate::<Portable<f32, 8>, 8, 16, 6>(&block.rhs, 3, &mut sums);
    assert!(sums.iter().all(|&sum| sum == 0.0) && integers.lost == 0.0);
}

#[cfg(target_arch = "x86_64")]
mod instruction_sets {
    use super::*;
    use crate::options::Level;
    use crate::simd::x86::{F32x8, F32x16};

    #[target_feature(enable = "avx2,fma")]
    fn with_avx2(block: &Narrow) -> Vec<f64> {
        block.sums::<F32x8>(&mut block.integers())
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    fn with_avx512(block: &Wide) -> Vec<f64> {
        block.sums::<F32x16>(&mut block.integers())
    }

    /// Every shape of a block, among them panels of two registers, of one, and columns beside them.
    fn every_block<const W: usize, const L: usize, const J: usize>(with: impl Fn(&Block<W, L, J>) -> Vec<f64>) {
        for (dimension, grade) in [(1, 3), (3, 4), (16, 3)] {
            for width in [1, 8, 16, 17, 33, 49] {
                let block = Block::<W, L, J>::new(dimension, grade, width, C - 3);
                let portable = block.sums::<Portable<f32, W>>(&mut block.integers());
                assert_eq!(with(&block), portable, "{dimension} {grade} {width}");
            }
        }
    }

    #[test]
    fn every_instruction_set_has_the_same_integers() {
        for level in Level::available() {
            match level {
                // SAFETY: this processor has the level.
                Level::Avx2 => every_block(|block: &Narrow| unsafe { with_avx2(block) }),
                // SAFETY: as above.
                Level::Avx512 => every_block(|block: &Wide| unsafe { with_avx512(block) }),
                _ => {}
            }
        }
    }
}
