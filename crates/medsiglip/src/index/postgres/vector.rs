//! The binary form of pgvector's types: two bytes each for the width and for nothing, then the numbers, all big-endian.

use std::error::Error;

use bytes::BytesMut;
use half::f16;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::index::Precision;

/// A value in its binary form.
#[derive(Debug)]
pub(super) struct Binary(pub Vec<u8>);

impl Binary {
    pub(super) fn vector(row: &[f32], precision: Precision) -> Self {
        let mut bytes = (row.len() as u16).to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        match precision {
            Precision::F16 => {
                bytes.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_be_bytes()))
            }
            _ => bytes.extend(row.iter().flat_map(|x| x.to_be_bytes())),
        }
        Self(bytes)
    }

    pub(super) fn jsonb(text: &str) -> Self {
        Self([&[1], text.as_bytes()].concat())
    }

    /// The numbers of a vector of `dim`; `None` where it is none, or one is not finite.
    pub(super) fn numbers(&self, dim: usize, precision: Precision) -> Option<Vec<f64>> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let numbers: Vec<f64> = match precision {
            Precision::F16 => {
                let (pairs, _) = rest.as_chunks::<2>();
                pairs
                    .iter()
                    .map(|x| f16::from_be_bytes(*x).to_f64())
                    .collect()
            }
            _ => {
                let (fours, _) = rest.as_chunks::<4>();
                fours
                    .iter()
                    .map(|x| f64::from(f32::from_be_bytes(*x)))
                    .collect()
            }
        };
        let is_whole =
            numbers.len() == dim && usize::from(u16::from_be_bytes([head[0], head[1]])) == dim;
        (is_whole && numbers.iter().all(|x| x.is_finite())).then_some(numbers)
    }
}

impl ToSql for Binary {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl FromSql<'_> for Binary {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back_and_what_is_none_is_refused() {
        let row = [0.5, -0.25, 0.0, 1.0];
        for precision in [Precision::F32, Precision::F16] {
            let mut binary = Binary::vector(&row, precision);
            assert_eq!(binary.numbers(4, precision).unwrap(), row.map(f64::from));
            assert_eq!(binary.numbers(3, precision), None);
            binary.0.truncate(binary.0.len() - 1);
            assert_eq!(binary.numbers(4, precision), None);
            assert_eq!(Binary(vec![0, 0, 0]).numbers(0, precision), None);
            let wrong = Binary::vector(&[f32::NAN; 4], precision);
            assert_eq!(wrong.numbers(4, precision), None);
        }
    }
}
