//! A frame's bytes to stored values, by transfer syntax (DICOM PS3.5 section 8 and annex A).
//!
//! The values are those of pydicom 3.0.1's `pixel_array`, which is what the field computes with. Each codec gives the
//! bit patterns of the samples; one function, `Decoded::store`, extends their sign and turns YBR into RGB for all.

mod decoded;
mod native;
mod rle;
mod markers;
mod bits;
mod jpeg;
mod jpeg_lossless;
mod jpeg_ls;
mod jpeg_2000;
mod jpeg_xl;
#[cfg(test)]
mod tests;

use std::io::Read;

use dicom_dictionary_std::uids;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

use self::native::ByteOrder;
use super::read::EXPLICIT_VR_BIG_ENDIAN;
use super::{Shape, Stored};
use crate::{Error, Result};

/// Retired: processes 6 and 8, and 10 and 12.
const JPEG_SPECTRAL_SELECTION: &str = "1.2.840.10008.1.2.4.53";
const JPEG_FULL_PROGRESSION: &str = "1.2.840.10008.1.2.4.55";

/// Decodes one frame. `bytes` are a native frame's own bytes (for 1 bit allocated: from the byte that holds its first bit,
/// which is bit `first_bit`), or all fragments of an encapsulated frame, joined.
///
/// Explicit VR Big Endian with 8 bits allocated and Pixel Data as OW: bytes are expected in order of pixels, so that the
/// words must have been swapped before frames are cut (a frame of odd length ends within a word).
///
/// # Errors
/// `BAD_IMAGE` where the bytes are damaged or do not fit `shape`, `UNSUPPORTED` naming the transfer syntax where there
/// is no decoder, `LIMIT_EXCEEDED`.
pub(super) fn decode(syntax: &str, bytes: &[u8], first_bit: u8, shape: &Shape) -> Result<Stored> {
    let decoded = match syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN
        | uids::EXPLICIT_VR_LITTLE_ENDIAN
        | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        | uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN => {
            return native::decode(bytes, first_bit, ByteOrder::Little, shape);
        }
        EXPLICIT_VR_BIG_ENDIAN => {
            return native::decode(bytes, first_bit, ByteOrder::Big, shape);
        }
        uids::DEFLATED_IMAGE_FRAME_COMPRESSION => {
            let frame = inflate(bytes, native::frame_bytes(0, shape)?)?;
            return native::decode(&frame, 0, ByteOrder::Little, shape);
        }
        uids::RLE_LOSSLESS => return rle::decode(bytes, shape),
        uids::JPEG_BASELINE8_BIT
        | uids::JPEG_EXTENDED12_BIT
        | JPEG_SPECTRAL_SELECTION
        | JPEG_FULL_PROGRESSION
        | uids::JPEG_LOSSLESS
        | uids::JPEG_LOSSLESS_SV1 => jpeg::decode(bytes, shape)?,
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => jpeg_ls::decode(bytes, shape)?,
        uids::JPEG2000_LOSSLESS
        | uids::JPEG2000
        | uids::HTJ2K_LOSSLESS
        | uids::HTJ2K_LOSSLESS_RPCL
        | uids::HTJ2K => jpeg_2000::decode(bytes, shape)?,
        uids::JPEGXL_LOSSLESS | uids::JPEGXLJPEG_RECOMPRESSION | uids::JPEGXL => {
            jpeg_xl::decode(bytes, shape)?
        }
        _ => return Err(unsupported(syntax)),
    };
    decoded.store(shape)
}

/// The error for a transfer syntax that has no decoder.
fn unsupported(syntax: &str) -> Error {
    Error::Unsupported(match TransferSyntaxRegistry.get(syntax) {
        Some(known) => format!("DICOM transfer syntax {} ({syntax})", known.name()),
        None => format!("DICOM transfer syntax {syntax}"),
    })
}

/// A frame of `len` bytes from its raw deflate stream (PS3.5 annex A.4.13), which may hold a byte of padding more.
fn inflate(bytes: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let reader = flate2::read::DeflateDecoder::new(bytes);
    let done = reader.take(len as u64 + 2).read_to_end(&mut frame);
    match done {
        Ok(got) if got == len || got == len + 1 => Ok(frame),
        _ => Err(bad(
            "deflated frame",
            "stream is damaged or of another length than its frame",
        )),
    }
}

/// `BAD_IMAGE` about a part of a DICOM frame.
fn bad(part: &str, what: &str) -> Error {
    Error::BadImage(format!("DICOM {part}: {what}"))
}
