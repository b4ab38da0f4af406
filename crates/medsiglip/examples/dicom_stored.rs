//! Writes the stored values of DICOM files, for comparison with another reader (`scripts/compare_dicom.py`):
//! `dicom_stored OUT FILE...` writes `OUT/N.F.bin` for frame F of the Nth file, values in little endian, and prints a
//! line of JSON for each frame.

use std::io::Write;
use std::panic::catch_unwind;
use std::path::Path;

use medsiglip::image::dicom::{DicomFile, DisplayOptions, Stored, Values};
use medsiglip::image::{Limits, Samples};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let out = args.next().ok_or("usage: dicom_stored OUT FILE...")?;
    for (number, path) in args.enumerate() {
        let path = Path::new(&path);
        let opened = catch_unwind(|| DicomFile::open(path, &Limits::default()));
        let file = match opened {
            Err(_) => {
                println!("{}", json!({"file": number, "error": "PANIC"}));
                continue;
            }
            Ok(Err(error)) => {
                println!("{}", failed(number, None, &error));
                continue;
            }
            Ok(Ok(file)) => file,
        };
        for frame in 0..file.frames() {
            let stored = catch_unwind(|| file.stored(frame));
            let line = match stored {
                Err(_) => json!({"file": number, "frame": frame, "error": "PANIC"}),
                Ok(Err(error)) => failed(number, Some(frame), &error),
                Ok(Ok(stored)) => {
                    let bin = Path::new(&out).join(format!("{number}.{frame}.bin"));
                    std::fs::File::create(bin)?.write_all(&bytes(&stored.values))?;
                    let shown = show(
                        &file,
                        frame,
                        &Path::new(&out).join(format!("{number}.{frame}.show")),
                    );
                    described(number, frame, &stored, shown)
                }
            };
            println!("{line}");
        }
    }
    Ok(())
}

fn show(file: &DicomFile, frame: u32, path: &Path) -> Value {
    let picture = match catch_unwind(|| file.picture(frame, &DisplayOptions::default())) {
        Err(_) => return json!("PANIC"),
        Ok(Err(error)) => return json!(error.to_string()),
        Ok(Ok(picture)) => picture,
    };
    if let Samples::U8(samples) = picture.samples()
        && let Err(error) = std::fs::write(path, samples)
    {
        return json!(error.to_string());
    }
    let source = picture.source();
    json!({"display": source.display, "warnings": source.warnings, "channels": picture.channels()})
}

fn failed(file: usize, frame: Option<u32>, error: &medsiglip::Error) -> Value {
    json!({"file": file, "frame": frame, "error": error.code(), "message": error.to_string()})
}

fn described(file: usize, frame: u32, stored: &Stored, shown: Value) -> Value {
    let dtype = match stored.values {
        Values::U8(_) => "u1",
        Values::I8(_) => "i1",
        Values::U16(_) => "u2",
        Values::I16(_) => "i2",
        Values::U32(_) => "u4",
        Values::I32(_) => "i4",
        Values::F32(_) => "f4",
        Values::F64(_) => "f8",
    };
    json!({
        "file": file, "frame": frame, "dtype": dtype, "rows": stored.rows, "columns": stored.columns,
        "channels": stored.channels, "photometric": stored.photometric.name(), "warnings": stored.warnings,
        "shown": shown,
    })
}

fn bytes(values: &Values) -> Vec<u8> {
    match values {
        Values::U8(v) => v.clone(),
        Values::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}
