//! JPEG XL (ISO 18181; DICOM PS3.5 annex A.4.12), by the decoder that the format's own authors write in Rust.

use jxl::api::{
    Endianness, Event, JxlBitDepth, JxlColorType, JxlDataFormat, JxlDecoder, JxlDecoderOptions,
    JxlOutputBuffer, JxlPixelFormat, ProfileLevel,
};

use super::decoded::{Decoded, Words};
use super::{bad, markers};
use crate::image::dicom::{Photometric, Shape};
use crate::{Error, Result};

/// Decodes the first picture of a codestream or JPEG XL file.
pub(super) fn decode(mut bytes: &[u8], shape: &Shape) -> Result<Decoded> {
    let mut options = JxlDecoderOptions::default();
    // Rows and Columns are those of the codestream.
    options.adjust_orientation = false;
    options.max_profile_level = ProfileLevel::Main10;
    // Gray counts as three channels, and frames that others refer to may be larger than the picture.
    options.sample_limit = Some(shape.samples().saturating_mul(8).saturating_add(1 << 16));
    let mut decoder = JxlDecoder::new(options);
    let precision = header(&mut decoder, &mut bytes, shape)?;
    let words = if precision <= 8 {
        let mut samples = vec![0_u8; shape.samples()];
        picture(&mut decoder, bytes, &mut samples, shape)?;
        Words::U8(samples)
    } else {
        let mut samples = vec![0_u16; shape.samples()];
        picture(
            &mut decoder,
            bytes,
            bytemuck::cast_slice_mut(&mut samples),
            shape,
        )?;
        Words::U16(samples)
    };
    let mut decoded = Decoded::new(words, precision, shape);
    // The decoder's output is RGB whatever the codestream's own transform.
    if shape.photometric.channels() == 3 {
        decoded.photometric = Photometric::Rgb;
    }
    Ok(decoded)
}

/// Reads the header, compares it with the data set and asks for samples of its own precision, which is returned.
fn header(decoder: &mut JxlDecoder, bytes: &mut &[u8], shape: &Shape) -> Result<u8> {
    let none = || bad("JPEG XL frame", "no header");
    let Event::BasicInfo = next(decoder, bytes, None)? else {
        return Err(none());
    };
    let info = decoder.basic_info().ok_or_else(none)?;
    let JxlBitDepth::Int { bits_per_sample } = info.bit_depth else {
        return Err(Error::Unsupported(
            "DICOM JPEG XL frame: float samples".into(),
        ));
    };
    let precision = u8::try_from(bits_per_sample).unwrap_or(u8::MAX);
    let gray = decoder
        .current_pixel_format()
        .is_some_and(|format| format.color_type.is_grayscale());
    let size = (
        info.size.1 as u32,
        info.size.0 as u32,
        if gray { 1 } else { 3 },
    );
    markers::check_size("JPEG XL frame", size, precision, shape)?;
    if precision > 16 {
        return Err(Error::Unsupported(format!(
            "DICOM JPEG XL frame: expected up to 16 bits a sample, got {precision}"
        )));
    }
    let format = match precision {
        ..=8 => JxlDataFormat::U8 {
            bit_depth: precision,
        },
        _ => JxlDataFormat::U16 {
            endianness: Endianness::native(),
            bit_depth: precision,
        },
    };
    let format = JxlPixelFormat {
        color_type: if gray {
            JxlColorType::Grayscale
        } else {
            JxlColorType::Rgb
        },
        color_data_format: Some(format),
        extra_channel_format: vec![None; info.extra_channels.len()],
    };
    let failed = |_| bad("JPEG XL frame", "codestream is damaged");
    decoder.set_pixel_format(format).map_err(failed)?;
    Ok(precision)
}

/// Decodes the picture behind the header into `out`.
fn picture(
    decoder: &mut JxlDecoder,
    mut bytes: &[u8],
    out: &mut [u8],
    shape: &Shape,
) -> Result<()> {
    let rows = shape.rows as usize;
    let row = out.len() / rows;
    let mut buffers = [JxlOutputBuffer::new(out, rows, row)];
    loop {
        match next(decoder, &mut bytes, Some(&mut buffers))? {
            Event::FrameHeader => {}
            Event::FrameComplete { .. } => return Ok(()),
            _ => return Err(bad("JPEG XL frame", "no picture")),
        }
    }
}

fn next(
    decoder: &mut JxlDecoder,
    bytes: &mut &[u8],
    buffers: Option<&mut [JxlOutputBuffer]>,
) -> Result<Event> {
    match decoder.process(bytes, buffers, None) {
        Ok(Event::NeedMoreInput { .. }) => Err(bad("JPEG XL frame", "codestream ends early")),
        Ok(event) => Ok(event),
        Err(_) => Err(bad("JPEG XL frame", "codestream is damaged")),
    }
}
