//! What all codecs give: bit patterns of samples; and how they become stored values.

use super::bad;
use crate::image::dicom::{Photometric, Shape, Stored, Values};
use crate::{Error, Result};

/// Bit patterns of the samples of a frame, interleaved, in the smallest container that a codec has.
#[derive(Debug)]
pub(super) enum Words {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Words {
    fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::U32(v) => v.len(),
        }
    }

    /// The same in words of 8, 16 or 32 bits; what does not fit is cut off.
    fn of_size(self, bits: u32) -> Self {
        match (self, bits) {
            (Self::U8(v), 16) => Self::U16(each(v, u16::from)),
            (Self::U8(v), 32) => Self::U32(each(v, u32::from)),
            (Self::U16(v), 8) => Self::U8(each(v, |v| v as u8)),
            (Self::U16(v), 32) => Self::U32(each(v, u32::from)),
            (Self::U32(v), 8) => Self::U8(each(v, |v| v as u8)),
            (Self::U32(v), 16) => Self::U16(each(v, |v| v as u16)),
            (same, _) => same,
        }
    }
}

/// A frame as a codec gives it.
#[derive(Debug)]
pub(super) struct Decoded {
    /// (rows, columns, samples per pixel).
    pub words: Words,
    /// The low bits of a word that hold its value; those above are undefined.
    pub bits: u8,
    /// What the samples are; YBR_FULL where they are to be converted.
    pub photometric: Photometric,
    /// ICC profile of the codestream.
    pub icc_profile: Option<Vec<u8>>,
    /// What was odd.
    pub warnings: Vec<String>,
}

impl Decoded {
    /// A frame of `shape` whose words have `bits` bits.
    pub fn new(words: Words, bits: u8, shape: &Shape) -> Self {
        Self {
            words,
            bits,
            photometric: shape.photometric,
            icc_profile: None,
            warnings: Vec::new(),
        }
    }

    /// Stored values: in the container that Bits Allocated and Pixel Representation ask for, sign-extended from
    /// `bits` where the data set says that they are signed (whatever the codestream says), and RGB where they were
    /// YBR_FULL.
    ///
    /// This is pydicom's `correct_unused_bits` for native, RLE and JPEG data and its sign correction for JPEG 2000
    /// and JPEG-LS, which has no sign of its own.
    pub fn store(self, shape: &Shape) -> Result<Stored> {
        let channels = usize::from(shape.samples_per_pixel);
        if self.words.len() != shape.samples() {
            return Err(bad(
                "frame",
                "number of samples does not fit rows and columns",
            ));
        }
        let mut photometric = self.photometric;
        if !matches!(channels, 1 | 3) {
            return Err(bad("frame", "expected 1 or 3 samples a pixel"));
        }
        let mut values = values(self.words, u32::from(self.bits), shape)?;
        if channels == 3 {
            match photometric {
                Photometric::YbrFull | Photometric::YbrFull422 => {
                    ybr_to_rgb(&mut values, self.bits)?;
                    photometric = Photometric::Rgb;
                }
                Photometric::YbrIct
                | Photometric::YbrRct
                | Photometric::YbrPartial420
                | Photometric::YbrPartial422 => {
                    return Err(Error::Unsupported(format!(
                        "DICOM photometric interpretation {} with this transfer syntax",
                        photometric.name()
                    )));
                }
                _ => {}
            }
        }
        Ok(Stored {
            rows: shape.rows,
            columns: shape.columns,
            channels: shape.samples_per_pixel,
            values,
            photometric,
            icc_profile: self.icc_profile,
            warnings: self.warnings,
        })
    }
}

/// `words` in the container of `shape`, extended from their lowest `bits` bits.
fn values(words: Words, bits: u32, shape: &Shape) -> Result<Values> {
    let allocated = match shape.bits_allocated {
        1 | 8 => 8,
        16 => 16,
        32 => 32,
        other => {
            return Err(Error::Unsupported(format!(
                "DICOM bits allocated (0028,0100): expected 1, 8, 16 or 32, got {other}"
            )));
        }
    };
    if bits == 0 || bits > allocated {
        return Err(Error::BadImage(format!(
            "DICOM frame: expected up to {allocated} bits a sample, got {bits}"
        )));
    }
    let unused = allocated - bits;
    let signed = shape.is_signed && shape.bits_allocated > 1;
    // Words of one size are changed in place.
    Ok(match (words.of_size(allocated), signed) {
        (Words::U8(v), false) if unused == 0 => Values::U8(v),
        (Words::U16(v), false) if unused == 0 => Values::U16(v),
        (Words::U32(v), false) if unused == 0 => Values::U32(v),
        (Words::U8(v), false) => Values::U8(each(v, |v| v << unused >> unused)),
        (Words::U16(v), false) => Values::U16(each(v, |v| v << unused >> unused)),
        (Words::U32(v), false) => Values::U32(each(v, |v| v << unused >> unused)),
        (Words::U8(v), true) => Values::I8(each(v, |v| (v << unused) as i8 >> unused)),
        (Words::U16(v), true) => Values::I16(each(v, |v| (v << unused) as i16 >> unused)),
        (Words::U32(v), true) => Values::I32(each(v, |v| (v << unused) as i32 >> unused)),
    })
}

fn each<T, U>(words: Vec<T>, change: impl Fn(T) -> U) -> Vec<U> {
    words.into_iter().map(change).collect()
}

/// YBR_FULL to RGB in place (PS3.3 C.7.6.3.1.2), rounded to nearest, for unsigned samples of `bits` bits.
fn ybr_to_rgb(values: &mut Values, bits: u8) -> Result<()> {
    match values {
        Values::U8(v) if bits == 8 => {
            let tables = YbrTables::new();
            v.chunks_exact_mut(3)
                .for_each(|pixel| tables.convert(pixel));
        }
        Values::U8(v) => convert_wide(v, bits, f64::from, |v| v as u8),
        Values::U16(v) => convert_wide(v, bits, f64::from, |v| v as u16),
        Values::U32(v) => convert_wide(v, bits, f64::from, |v| v as u32),
        _ => return Err(Error::Unsupported("DICOM frame: signed YBR_FULL".into())),
    }
    Ok(())
}

/// Contributions of Cb and Cr in units of 2^-20: enough to round as exact numbers would for all 8-bit triples.
struct YbrTables {
    red: [i32; 256],
    blue: [i32; 256],
    green: [[i32; 256]; 2],
}

impl YbrTables {
    fn new() -> Self {
        let table = |factor: f64, half: f64| -> [i32; 256] {
            let one = f64::from(1 << 20);
            std::array::from_fn(|i| ((i as f64 - 128.0) * factor * one + half * one).round() as i32)
        };
        let whole = |table: [i32; 256]| table.map(|v| v >> 20);
        Self {
            red: whole(table(1.402, 0.5)),
            blue: whole(table(1.772, 0.5)),
            green: [
                table(-0.114 * 1.772 / 0.587, 0.5),
                table(-0.299 * 1.402 / 0.587, 0.0),
            ],
        }
    }

    fn convert(&self, pixel: &mut [u8]) {
        let &mut [y, cb, cr] = pixel else { return };
        let (y, cb, cr) = (i32::from(y), usize::from(cb), usize::from(cr));
        let green = (self.green[0][cb] + self.green[1][cr]) >> 20;
        pixel[0] = (y + self.red[cr]).clamp(0, 255) as u8;
        pixel[1] = (y + green).clamp(0, 255) as u8;
        pixel[2] = (y + self.blue[cb]).clamp(0, 255) as u8;
    }
}

fn convert_wide<T: Copy>(
    samples: &mut [T],
    bits: u8,
    wide: impl Fn(T) -> f64,
    narrow: impl Fn(f64) -> T,
) {
    let max = (1_u64 << bits) as f64 - 1.0;
    let half = (1_u64 << (bits - 1)) as f64;
    for pixel in samples.chunks_exact_mut(3) {
        let (y, cb, cr) = (wide(pixel[0]), wide(pixel[1]) - half, wide(pixel[2]) - half);
        let rgb = [
            y + 1.402 * cr,
            y - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr,
            y + 1.772 * cb,
        ];
        for (sample, value) in pixel.iter_mut().zip(rgb) {
            *sample = narrow((value + 0.5).floor().clamp(0.0, max));
        }
    }
}
