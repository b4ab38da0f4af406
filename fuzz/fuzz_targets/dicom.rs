//! Any bytes as a DICOM file: header, frames, every display rule. Errors are fine; panics, hangs and memory are not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medsiglip::image::Limits;
use medsiglip::image::dicom::{CtWindows, DicomFile, DisplayOptions, DisplayRule};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        max_file_bytes: 1 << 20,
        max_pixels: 1 << 16,
    };
    let Ok(file) = DicomFile::from_bytes(bytes.to_vec(), &limits) else {
        return;
    };
    assert!(
        u64::from(file.frames()) <= 8 * bytes.len() as u64,
        "a frame has at least one bit"
    );
    let shape = *file.shape();
    for frame in 0..file.frames().min(3) {
        if let Ok(stored) = file.stored(frame) {
            assert_eq!(stored.values.len(), shape.samples());
        }
        for rule in [DisplayRule::Standard, DisplayRule::Container] {
            for ct_windows in [CtWindows::Medsiglip, CtWindows::Gray] {
                let options = DisplayOptions {
                    rule,
                    ct_windows,
                    ..DisplayOptions::default()
                };
                if let Ok(picture) = file.picture(frame, &options) {
                    assert_eq!(
                        (picture.width(), picture.height()),
                        (shape.columns, shape.rows)
                    );
                }
            }
        }
    }
});
