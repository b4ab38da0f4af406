//! Times DICOM files from bytes on disk to pixel values (open, decode, display, resize to 448), for
//! `scripts/bench_dicom.py`: `dicom_speed REPEATS THREADS FILE...` prints a line of JSON for each file with the seconds of
//! each repeat, the first frame alone; then one for all files together, shared among the threads.

use std::path::Path;
use std::time::Instant;

use medsiglip::image::Limits;
use medsiglip::image::dicom::{CtWindows, DicomFile, DisplayOptions};
use medsiglip::preprocess::{PixelValues, Preprocessor, Recipe};
use rayon::prelude::*;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: dicom_speed REPEATS THREADS FILE...";
    let repeats: usize = args.next().ok_or(usage)?.parse()?;
    let threads: usize = args.next().ok_or(usage)?.parse()?;
    let files: Vec<String> = args.collect();
    let preprocessor = Preprocessor::new(Recipe::Hf, None, 448, None)?;
    for file in &files {
        let mut seconds = Vec::new();
        for _ in 0..repeats {
            let start = Instant::now();
            let pixels = pixel_values(file, &preprocessor);
            if pixels.is_ok() {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        println!("{}", json!({"file": file, "seconds": seconds}));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let start = Instant::now();
    let done = pool.install(|| {
        let all = (0..repeats).into_par_iter().flat_map(|_| files.par_iter());
        all.filter(|file| pixel_values(file, &preprocessor).is_ok())
            .count()
    });
    println!(
        "{}",
        json!({"threads": threads, "pictures": done, "seconds": start.elapsed().as_secs_f64()})
    );
    Ok(())
}

fn pixel_values(file: &str, preprocessor: &Preprocessor) -> medsiglip::Result<PixelValues> {
    let file = DicomFile::open(Path::new(file), &Limits::default())?;
    // One gray window, as the peer computes.
    let options = DisplayOptions {
        ct_windows: CtWindows::Gray,
        ..DisplayOptions::default()
    };
    preprocessor.pixel_values(&file.picture(0, &options)?)
}
