//! What stands before an array's numbers in a `.npy` file.

#[cfg(feature = "data")]
use std::io::Read;

/// Bytes of a header that are read; numpy itself refuses more than ten thousand.
#[cfg(feature = "data")]
const MAX_HEADER: usize = 1 << 16;

/// The header of a `.npy` file (numpy/lib/format.py): a Python dictionary of three entries.
#[derive(Debug)]
pub(crate) struct NpyHeader {
    pub(crate) descr: String,
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<usize>,
    /// Bytes before the numbers.
    pub(crate) length: usize,
}

impl NpyHeader {
    /// The header at the start of `bytes`; `None` where they are no `.npy` file.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (start, text_length) = Self::lengths(bytes)?;
        let rest = bytes.get(start..)?;
        let text = std::str::from_utf8(rest.get(..text_length)?).ok()?;
        let (shape, _) = value(text, "shape")?.strip_prefix('(')?.split_once(')')?;
        let sides = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
        Some(Self {
            descr: value(text, "descr")?
                .strip_prefix('\'')?
                .split_once('\'')?
                .0
                .to_owned(),
            fortran_order: value(text, "fortran_order")?.starts_with("True"),
            shape: sides.map(|s| s.parse().ok()).collect::<Option<_>>()?,
            length: start + text_length,
        })
    }

    /// As [`parse`](Self::parse), read up to the first number.
    #[cfg(feature = "data")]
    pub(crate) fn read(reader: &mut impl Read) -> Option<Self> {
        // The shortest file that is one has more than twelve bytes.
        let mut bytes = vec![0; 12];
        reader.read_exact(&mut bytes).ok()?;
        let (start, text_length) = Self::lengths(&bytes)?;
        let length = start.checked_add(text_length)?;
        if !(bytes.len()..=MAX_HEADER).contains(&length) {
            return None;
        }
        bytes.resize(length, 0);
        reader.read_exact(&mut bytes[12..]).ok()?;
        Self::parse(&bytes)
    }

    /// Bytes before the dictionary, and of it.
    fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
        let rest = bytes.strip_prefix(b"\x93NUMPY")?;
        let (version, rest) = rest.split_first_chunk::<2>()?;
        match version[0] {
            1 => {
                let (n, _) = rest.split_first_chunk::<2>()?;
                Some((10, usize::from(u16::from_le_bytes(*n))))
            }
            2 | 3 => {
                let (n, _) = rest.split_first_chunk::<4>()?;
                Some((12, usize::try_from(u32::from_le_bytes(*n)).ok()?))
            }
            _ => None,
        }
    }

    /// The size of the file, of elements of `each` bytes; `None` where it overflows.
    #[cfg(feature = "data")]
    pub(crate) fn bytes(&self, each: u64) -> Option<u64> {
        let numbers = (self.count()? as u64).checked_mul(each)?;
        numbers.checked_add(self.length as u64)
    }

    /// The number of elements; `None` where it overflows.
    pub(crate) fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s))
    }
}

/// The text behind `'name':`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("'{name}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}
