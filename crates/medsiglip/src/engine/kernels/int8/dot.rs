//! Dot products of bytes, for each kind of processor.

use pulp::Simd;

use crate::engine::panels::LANES;

/// Dot products of four unsigned and four signed bytes in each 32-bit lane.
///
/// # Safety
/// Each function needs the processor's instructions. A vector has a whole fraction of LANES lanes of 32 bits, which
/// `load` and `store` read and write, at any alignment.
pub(super) trait Dot: Copy {
    type Vector: Copy;
    /// The f32 instructions that come with these.
    type Simd: Simd;
    unsafe fn zero(self) -> Self::Vector;
    unsafe fn load(self, from: *const u32) -> Self::Vector;
    unsafe fn store(self, to: *mut i32, vector: Self::Vector);
    unsafe fn splat(self, bytes: i32) -> Self::Vector;
    /// `sum` plus the products of the bytes of `x` (unsigned) and `w` (signed).
    unsafe fn dot(self, sum: Self::Vector, x: Self::Vector, w: Self::Vector) -> Self::Vector;
}

/// Plain code.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Dot for Plain {
    type Vector = [i32; LANES];
    type Simd = pulp::Scalar;

    #[inline(always)]
    unsafe fn zero(self) -> Self::Vector {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::Vector {
        // SAFETY: by the trait's contract; any bits are an array of integers.
        unsafe { from.cast::<Self::Vector>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, vector: Self::Vector) {
        // SAFETY: by the trait's contract.
        unsafe { to.cast::<Self::Vector>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn splat(self, bytes: i32) -> Self::Vector {
        [bytes; LANES]
    }

    #[inline(always)]
    unsafe fn dot(self, mut sum: Self::Vector, x: Self::Vector, w: Self::Vector) -> Self::Vector {
        for lane in 0..LANES {
            let products = x[lane].to_le_bytes().into_iter().zip(w[lane].to_le_bytes());
            sum[lane] += products
                .map(|(x, w)| i32::from(x) * i32::from(w as i8))
                .sum::<i32>();
        }
        sum
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512Vnni, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Dot;

    #[derive(Clone, Copy)]
    pub struct Avx512Vnni;

    impl Dot for Avx512Vnni {
        type Vector = __m512i;
        type Simd = pulp::x86::V4;

        #[inline(always)]
        unsafe fn zero(self) -> __m512i {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn load(self, from: *const u32) -> __m512i {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i32, vector: __m512i) {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_storeu_si512(to.cast(), vector) }
        }

        #[inline(always)]
        unsafe fn splat(self, bytes: i32) -> __m512i {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_set1_epi32(bytes) }
        }

        #[inline(always)]
        unsafe fn dot(self, sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_dpbusd_epi32(sum, x, w) }
        }
    }

    /// What the two units of 256 bits share.
    macro_rules! dot_256 {
        ($unit:ident, |$sum:ident, $x:ident, $w:ident| $dot:expr) => {
            #[derive(Clone, Copy)]
            pub struct $unit;

            impl Dot for $unit {
                type Vector = __m256i;
                type Simd = pulp::x86::V3;

                #[inline(always)]
                unsafe fn zero(self) -> __m256i {
                    // SAFETY: by the trait's contract.
                    unsafe { _mm256_setzero_si256() }
                }

                #[inline(always)]
                unsafe fn load(self, from: *const u32) -> __m256i {
                    // SAFETY: by the trait's contract.
                    unsafe { _mm256_loadu_si256(from.cast()) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut i32, vector: __m256i) {
                    // SAFETY: by the trait's contract.
                    unsafe { _mm256_storeu_si256(to.cast(), vector) }
                }

                #[inline(always)]
                unsafe fn splat(self, bytes: i32) -> __m256i {
                    // SAFETY: by the trait's contract.
                    unsafe { _mm256_set1_epi32(bytes) }
                }

                #[inline(always)]
                unsafe fn dot(self, $sum: __m256i, $x: __m256i, $w: __m256i) -> __m256i {
                    // SAFETY: by the trait's contract.
                    unsafe { $dot }
                }
            }
        };
    }

    dot_256!(AvxVnni, |sum, x, w| _mm256_dpbusd_avx_epi32(sum, x, w));
    // Pairs in 16 bits, at most 2 * 127 * 128 = 32512 as x has 7 bits; then pairs of these in 32 bits.
    dot_256!(Avx2, |sum, x, w| _mm256_add_epi32(
        sum,
        _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1))
    ));
}
