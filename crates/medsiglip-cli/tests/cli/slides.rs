//! Slides: tiles as rows, overviews, the files of the field.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rust_hdf5::H5File;
use serde_json::Value;

use crate::folder::{Folder, WIDTH, answer, column, embedding, json_lines};

/// Width and height of the slides here.
pub const SIZE: (u32, u32) = (400, 320);

/// Tiles of 64 pixels as they are, whether there is tissue or not.
pub const TILES: [&str; 5] = ["--tile", "64", "--level", "0", "--no-tissue"];

impl Folder {
    /// A slide of one level, a picture: glass with a square of tissue.
    pub fn slide(&self, name: &str, seed: u8) {
        let pixel = |x: u32, y: u32| match (80..280).contains(&x) && (60..220).contains(&y) {
            true => image::Rgb([200, 90 + (x * y % 60) as u8, 150 ^ seed]),
            false => image::Rgb([243; 3]),
        };
        let picture = image::RgbImage::from_fn(SIZE.0, SIZE.1, pixel);
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        self.write(name, bytes.into_inner());
    }
}

pub fn with_slide() -> Folder {
    let folder = Folder::new();
    folder.slide("slide.png", 0);
    folder
}

fn embed<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["embed", "slide.png"], &TILES[..], more].concat()
}

fn numbers(lines: &[Value], name: &str) -> Vec<i64> {
    lines
        .iter()
        .map(|line| line[name].as_i64().unwrap())
        .collect()
}

#[test]
fn tiles_are_rows_with_their_places() {
    let folder = with_slide();
    let lines = folder.run(&embed(&[])).expect(0).json();
    assert_eq!(
        column(&lines, "id")[..2],
        ["slide.png#x=0,y=0", "slide.png#x=64,y=0"]
    );
    assert!(
        column(&lines, "slide")
            .iter()
            .all(|slide| *slide == "slide.png")
    );
    // The last column and row lie partly outside of the slide.
    assert_eq!(lines.len(), 7 * 5);
    assert_eq!(
        numbers(&lines, "x")[..8],
        [0, 64, 128, 192, 256, 320, 384, 0]
    );
    assert!(
        numbers(&lines, "size_level0")
            .iter()
            .all(|size| *size == 64)
    );
    let tiling = "tile=64 level=0 overlap=0 no-tissue min-on-slide=0.1 icc=none reader=picture";
    assert!(column(&lines, "tiling").iter().all(|one| *one == tiling));
    // A tile is what the file would be, cut there.
    let whole = image::open(folder.path("slide.png")).unwrap();
    whole
        .crop_imm(64, 64, 64, 64)
        .save(folder.path("cut.png"))
        .unwrap();
    let cut = &folder.run(&["embed", "cut.png"]).expect(0).json()[0];
    let tile = lines
        .iter()
        .find(|line| line["x"] == 64 && line["y"] == 64)
        .unwrap();
    let worst = embedding(cut)
        .into_iter()
        .zip(embedding(tile))
        .map(|(a, b)| (a - b).abs());
    assert!(worst.fold(0.0, f32::max) < 1e-4);
}

#[test]
fn background_is_left_out_and_the_overview_shows_it() {
    let folder = with_slide();
    let args = [
        "--tile",
        "32",
        "--mpp",
        "8",
        "--slide-mpp",
        "8",
        "--overview",
        "look.png",
    ];
    let args = [&["embed", "slide.png"], &args[..]].concat();
    let lines = folder.run(&args).expect(0).json();
    assert!((20..60).contains(&lines.len()), "{} of 130", lines.len());
    let (x, y) = (numbers(&lines, "x"), numbers(&lines, "y"));
    assert!(x.iter().all(|x| (32..300).contains(x)) && y.iter().all(|y| (16..240).contains(y)));
    let look = image::open(folder.path("look.png")).unwrap();
    assert_eq!((look.width(), look.height()), SIZE);
    let answer = folder.run(&args).expect(2);
    assert!(
        answer.stderr.contains("the output exists: look.png"),
        "{answer:#?}"
    );
}

#[test]
fn parquet_has_the_tiles_places() {
    let folder = with_slide();
    folder.run(&embed(&["--output", "out.parquet"])).expect(0);
    let file = std::fs::File::open(folder.path("out.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let batch = reader.map(Result::unwrap).next().unwrap();
    let numbers = |name: &str| {
        let column = batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>();
        column.values().to_vec()
    };
    assert_eq!(numbers("x")[..3], [0, 64, 128]);
    assert_eq!(
        (
            numbers("y")[7],
            numbers("level")[0],
            numbers("size_level0")[0]
        ),
        (64, 0, 64)
    );
}

/// Coordinates and features of an HDF5 file.
fn read_h5(folder: &Folder, name: &str) -> (Vec<i64>, Vec<f32>) {
    let file = H5File::open(folder.path(name)).unwrap();
    let (coords, features) = (
        file.dataset("coords").unwrap(),
        file.dataset("features").unwrap(),
    );
    let rows = coords.shape()[0];
    assert_eq!(coords.shape(), [rows, 2]);
    assert_eq!(features.shape(), [rows, WIDTH]);
    (coords.read_raw().unwrap(), features.read_raw().unwrap())
}

#[test]
fn h5_holds_the_same_numbers_and_what_the_field_reads() {
    let folder = with_slide();
    folder.run(&embed(&["--output", "out.h5"])).expect(0);
    let lines = folder.run(&embed(&[])).expect(0).json();
    let (coords, features) = read_h5(&folder, "out.h5");
    let places = numbers(&lines, "x").into_iter().zip(numbers(&lines, "y"));
    assert_eq!(coords, places.flat_map(|(x, y)| [x, y]).collect::<Vec<_>>());
    assert_eq!(
        features,
        lines.iter().flat_map(embedding).collect::<Vec<_>>()
    );
    let file = H5File::open(folder.path("out.h5")).unwrap();
    let coords = file.dataset("coords").unwrap();
    let number = |name: &str| coords.attr(name).unwrap().read_numeric::<i64>().unwrap();
    let expected = [
        ("patch_size", 64),
        ("patch_size_level0", 64),
        ("patch_level", 0),
        ("overlap", 0),
        ("level0_width", 400),
        ("level0_height", 320),
    ];
    for (name, value) in expected {
        assert_eq!(number(name), value, "{name}");
    }
    assert_eq!(coords.attr("name").unwrap().read_string().unwrap(), "slide");
    let provenance = file.attr_string("medsiglip.provenance").unwrap();
    assert_eq!(json_lines(&provenance)[0]["model"], "tiny");
}

#[test]
fn magnifications_follow_the_microns_per_pixel() {
    let folder = with_slide();
    let args = [
        "--tile",
        "32",
        "--mpp",
        "0.5",
        "--slide-mpp",
        "0.25",
        "--no-tissue",
    ];
    folder
        .run(&[&["embed", "slide.png", "--output", "out.h5"], &args[..]].concat())
        .expect(0);
    let file = H5File::open(folder.path("out.h5")).unwrap();
    let coords = file.dataset("coords").unwrap();
    let number = |name: &str| coords.attr(name).unwrap().read_numeric::<i64>().unwrap();
    assert_eq!(
        (number("patch_size"), number("patch_size_level0")),
        (32, 64)
    );
    assert_eq!(
        (
            number("level0_magnification"),
            number("target_magnification")
        ),
        (40, 20)
    );
    assert!(
        coords.attr("patch_level").is_err(),
        "CLAM would read another size"
    );
}

#[test]
fn several_slides_go_into_a_folder_and_bad_ones_are_listed() {
    let folder = with_slide();
    folder.slide("b/other.png", 9);
    folder.write("b/torn.png", "");
    let paths = [
        "embed",
        "slide.png",
        "b/torn.png",
        "b/other.png",
        "--format",
        "h5",
    ];
    let run = |more: &[&str]| folder.run(&[&paths, &TILES[..], more].concat());
    let answer = run(&["--output", "out"]).expect(1);
    assert!(answer.stderr.contains("error[BAD_IMAGE]") && answer.stderr.contains("b/torn.png"));
    assert_eq!(
        folder.outputs(),
        ["b", "out", "out.errors.jsonl", "slide.png"]
    );
    let (first, second) = (
        read_h5(&folder, "out/slide.h5"),
        read_h5(&folder, "out/other.h5"),
    );
    assert!(first.0 == second.0 && first.1 != second.1);
    assert!(
        run(&["--output", "out"])
            .expect(2)
            .stderr
            .contains("the output exists: out/slide.h5")
    );
    assert!(
        run(&["--output", "out", "--resume", "-q"])
            .expect(0)
            .stderr
            .contains("already there")
    );
    run(&["--output", "out/", "--overwrite"]).expect(1);
    let answer = run(&["--output", "one.h5"]).expect(2);
    assert!(
        answer
            .stderr
            .contains("2 slides do not go into one h5 file"),
        "{answer:#?}"
    );
}

#[test]
fn slides_of_one_name_are_refused() {
    let folder = with_slide();
    folder.slide("b/slide.png", 9);
    let same = [
        "embed",
        "slide.png",
        "b/slide.png",
        "--format",
        "h5",
        "--output",
        "x",
    ];
    let answer = folder.run(&[&same, &TILES[..]].concat()).expect(2);
    assert!(
        answer
            .stderr
            .contains("two slides would be written to slide.h5"),
        "{answer:#?}"
    );
}

#[test]
fn tiles_can_be_given() {
    let folder = with_slide();
    folder.write("c.csv", "\u{feff}X, Y,note\n100,50,a\n7,9,b\n");
    let lines = folder.run(&embed(&["--coords", "c.csv"])).expect(0).json();
    assert_eq!(
        (numbers(&lines, "x"), numbers(&lines, "y")),
        (vec![100, 7], vec![50, 9])
    );
    let cases = [
        ("x,y\n", "no coordinates"),
        ("a,b\n1,2\n", "expected columns x and y"),
        ("x,y\n1,2\n3,-4\n", "line 3"),
        ("x,y\n1\n", "line 2"),
    ];
    for (text, expected) in cases {
        folder.write("c.csv", text);
        let answer = folder.run(&embed(&["--coords", "c.csv"])).expect(2);
        assert!(answer.stderr.contains(expected), "{answer:#?}");
    }
}

#[test]
fn wrong_options_are_refused_before_any_work() {
    let folder = with_slide();
    let cases: [(&[&str], &str); 7] = [
        (&["--mpp", "0.5"], "--tile"),
        (
            &["--format", "h5", "--output", "out.h5"],
            "h5 is for the tiles of slides",
        ),
        (
            &["--tile", "64", "--level", "0", "--format", "h5"],
            "standard output",
        ),
        (
            &["--tile", "64", "--level", "0", "--mpp", "1"],
            "cannot be used with",
        ),
        (
            &["--tile", "64", "--level", "0", "--icc", "cmyk"],
            "adobergb",
        ),
        (&["--tile", "0"], "--tile"),
        (&["--overview", "x.png"], "--tile"),
    ];
    for (more, expected) in cases {
        let answer = folder
            .run(&[&["embed", "slide.png"], more].concat())
            .expect(2);
        assert!(answer.stderr.contains(expected), "{answer:#?}");
        assert!(answer.stdout.is_empty());
    }
    // What is wrong for this slide fails with it.
    for (more, code) in [
        (["--tile", "64", "--level", "3"], "BAD_ARGUMENT"),
        (["--tile", "64", "--mpp", "0.5"], "BAD_ARGUMENT"),
    ] {
        let answer = folder
            .run(&[&["embed", "slide.png"], &more[..]].concat())
            .expect(2);
        let error = &answer.json()[0]["error"];
        assert_eq!(error["code"], code, "{answer:#?}");
    }
}

#[test]
fn a_killed_run_goes_on_and_gives_the_same_bytes() {
    for format in ["parquet", "h5"] {
        let folder = with_slide();
        let (broken, whole) = (format!("broken.{format}"), format!("whole.{format}"));
        let args = |output: &str, more: &[&str]| -> Vec<String> {
            let args = [
                "embed",
                "slide.png",
                "--tile",
                "16",
                "--level",
                "0",
                "--no-tissue",
            ];
            let rest = ["--batch-size", "1", "--output", output];
            let all = [&args[..], &rest, more].concat();
            all.into_iter().map(str::to_owned).collect()
        };
        let run =
            |args: Vec<String>| folder.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let first = args(&broken, &[]);
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let part = folder.path(&format!("{broken}.part"));
        let mut child = folder.command(&first).spawn().unwrap();
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while part.metadata().map_or(0, |file| file.len()) < 6000 {
            assert!(
                std::time::Instant::now() < patience,
                "no work was kept in time"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert_ne!(answer(child.wait_with_output().unwrap()).code, Some(0));
        let other = run(args(&broken, &["--resume", "--overlap", "4"])).expect(2);
        assert!(other.stderr.contains("overlap was 0, is 4"), "{other:#?}");
        let resumed = run(args(&broken, &["--resume"])).expect(0);
        assert!(
            resumed.stderr.contains("of 500 done before"),
            "{resumed:#?}"
        );
        run(args(&whole, &[])).expect(0);
        assert_eq!(folder.read(&broken), folder.read(&whole), "{format}");
    }
}

#[test]
fn a_slide_without_tissue_fails_by_name() {
    let folder = with_slide();
    let blank = image::RgbImage::from_pixel(SIZE.0, SIZE.1, image::Rgb([243; 3]));
    blank.save(folder.path("blank.png")).unwrap();
    let tiles = ["--tile", "32", "--mpp", "8", "--slide-mpp", "8"];
    let run = |args: &[&str]| folder.run(&[args, &tiles[..]].concat());
    for (paths, code) in [(&["blank.png"][..], 2), (&["blank.png", "slide.png"], 1)] {
        let line = &run(&[&["embed"], paths].concat()).expect(code).json()[0];
        assert_eq!(
            (&line["id"], &line["error"]["code"]),
            (&"blank.png".into(), &"BAD_IMAGE".into())
        );
        assert!(
            line["error"]["message"]
                .as_str()
                .unwrap()
                .contains("--no-tissue")
        );
    }
    let labels = ["--labels", "a,b", "--heatmap", "maps"];
    run(&[&["classify", "blank.png", "slide.png"], &labels[..]].concat()).expect(1);
    assert!(folder.exists("maps/slide.png") && !folder.exists("maps/blank.png"));
}

#[test]
fn wrong_numbers_are_named_by_their_flag() {
    let folder = with_slide();
    let cases = [
        ("--mpp", "0"),
        ("--mpp", "nan"),
        ("--mpp", "inf"),
        ("--mpp", "-1"),
        ("--slide-mpp", "0"),
        ("--min-tissue", "2"),
        ("--min-tissue", "nan"),
        ("--min-tissue", "-1"),
        ("--overlap", "64"),
        ("--tile", "99999"),
    ];
    for (flag, value) in cases {
        let tile: &[&str] = if flag == "--tile" {
            &[]
        } else {
            &["--tile", "64"]
        };
        let args = [&["embed", "slide.png"], tile, &[flag, value]].concat();
        let answer = folder.run(&args).expect(2);
        let is_named = answer.stderr.contains(flag) && answer.stderr.contains("BAD_ARGUMENT");
        assert!(is_named && answer.stdout.is_empty(), "{answer:#?}");
    }
}

#[test]
fn what_was_not_converted_is_not_recorded_as_such() {
    let folder = with_slide();
    let line = &folder.run(&embed(&["--icc", "srgb"])).expect(0).json()[0];
    assert!(line["tiling"].as_str().unwrap().contains(" icc=none "));
}

#[test]
fn a_folder_of_pictures_is_no_folder_of_slides() {
    let folder = Folder::with_pictures(1);
    let answer = folder
        .run(&[&["embed", "scans"], &TILES[..]].concat())
        .expect(2);
    assert!(
        answer.stderr.contains("no slides found") && answer.stderr.contains("by name"),
        "{answer:#?}"
    );
}
