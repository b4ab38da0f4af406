//! Outputs that would replace inputs or each other, and names that do not fit: refused before any work.

use crate::dicom::Dicom;
use crate::folder::Folder;
use crate::slides::{TILES, with_slide};

/// Expects `expected` as a wrong argument, and every file as it was.
fn refused(folder: &Folder, args: &[&str], expected: &str) {
    let names = folder.outputs();
    let answer = folder.run(args).expect(2);
    assert!(
        answer.stderr.contains("error[BAD_ARGUMENT]") && answer.stderr.contains(expected),
        "{args:?} {answer:#?}"
    );
    assert!(answer.stdout.is_empty());
    assert_eq!(folder.outputs(), names);
}

#[test]
fn an_input_is_never_replaced() {
    let folder = with_slide();
    let bytes = Dicom::new(1, 1).bytes();
    folder.write("in.dcm", &bytes);
    folder.picture("in.png", 1);
    let slide = folder.read("slide.png");
    let is_input = |args: &[&str]| {
        let args = [args, &["--overwrite"]].concat();
        refused(&folder, &args, "the output is an input");
    };
    is_input(&["embed", "in.dcm", "-o", "./in.dcm", "--format", "jsonl"]);
    is_input(&["embed", ".", "-o", "in.dcm", "--format", "csv"]);
    is_input(&["inspect", "in.png", "-o", "in.png"]);
    let tiles = |command: &[&str], more: &[&str]| is_input(&[command, &TILES[..], more].concat());
    tiles(&["embed", "slide.png"], &["--overview", "slide.png"]);
    tiles(&["embed", "slide.png"], &["--overview", "."]);
    let classify = ["classify", "slide.png", "--labels", "a,b"];
    tiles(&classify, &["--heatmap", "slide.png"]);
    tiles(&classify, &["--heatmap", "."]);
    assert!(folder.read("in.dcm") == bytes && folder.read("slide.png") == slide);
}

#[cfg(unix)]
#[test]
fn an_input_is_known_by_another_name() {
    let folder = Folder::with_pictures(1);
    std::os::unix::fs::symlink("scans", folder.path("link")).unwrap();
    let args = ["embed", "scans", "--overwrite", "--format", "jsonl", "-o"];
    let args = [&args[..], &["link/000.png"]].concat();
    refused(&folder, &args, "the output is an input");
}

#[test]
fn two_outputs_are_two_files() {
    let folder = with_slide();
    let twice = |more: &[&str]| {
        let args = ["classify", "slide.png", "--labels", "a,b"];
        let args = [&args, &TILES[..], more].concat();
        refused(&folder, &args, "two outputs are one file");
    };
    twice(&["-o", "z.png", "--format", "jsonl", "--overview", "z.png"]);
    twice(&["--overview", "z.png", "--heatmap", "./z.png"]);
    twice(&["-o", "z.geojson", "--format", "jsonl", "--heatmap", "z.png"]);
}

#[test]
fn pictures_are_written_under_the_name_of_their_format() {
    let folder = with_slide();
    let not_png = |args: &[&str]| refused(&folder, args, "ends with .png");
    let tiles = |command: &[&str], more: &[&str]| not_png(&[command, &TILES[..], more].concat());
    let classify = ["classify", "slide.png", "--labels", "a,b"];
    tiles(&classify, &["--heatmap", "map.geojson"]);
    tiles(&["embed", "slide.png"], &["--overview", "look"]);
    not_png(&["inspect", "slide.png", "-o", "view.jpg"]);
}
