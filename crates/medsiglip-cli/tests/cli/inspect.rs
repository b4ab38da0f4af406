//! `inspect`, `convert`, `completions` and `--version`.

use crate::folder::{Folder, TINY, answer, embedding};

#[test]
fn a_picture_is_described_and_its_view_written() {
    let folder = Folder::with_pictures(1);
    let args = [
        "inspect",
        "scans/000.png",
        "--format",
        "json",
        "--output",
        "view.png",
    ];
    let run = || {
        let mut command = folder.command(&args);
        command.env_remove("MEDSIGLIP_MODEL");
        answer(command.output().unwrap())
    };
    let facts = &run().expect(0).json()[0];
    assert_eq!(facts["format"], "png");
    assert_eq!(
        (&facts["width"], &facts["height"]),
        (&40.into(), &50.into())
    );
    assert_eq!(
        (&facts["recipe"], &facts["resolution"]),
        (&"hf".into(), &448.into())
    );
    let view = image::open(folder.path("view.png")).unwrap();
    assert_eq!((view.width(), view.height()), (448, 448));
    assert!(run().expect(2).stderr.contains("--overwrite"));
}

#[test]
fn the_view_is_at_the_models_resolution() {
    let folder = Folder::with_pictures(1);
    folder
        .run(&[
            "inspect",
            "scans/000.png",
            "--model",
            TINY,
            "--output",
            "view.png",
        ])
        .expect(0);
    assert_eq!(image::open(folder.path("view.png")).unwrap().width(), 56);
}

#[test]
fn without_a_file_the_model_is_described() {
    let folder = Folder::with_pictures(1);
    let inspect = |model: Option<&str>, more: &[&str]| {
        let mut command = folder.command(&[&["inspect", "--format", "json"], more].concat());
        match model {
            Some(model) => command.env("MEDSIGLIP_MODEL", model),
            None => command.env_remove("MEDSIGLIP_MODEL"),
        };
        answer(command.output().unwrap())
    };
    let by_path = inspect(None, &[TINY]).expect(0).stdout;
    assert_eq!(inspect(None, &["--model", TINY]).expect(0).stdout, by_path);
    assert_eq!(inspect(Some(TINY), &[]).expect(0).stdout, by_path);
    let picture = inspect(Some(TINY), &["scans/000.png"]).expect(0).json();
    assert_eq!(picture[0]["resolution"], 56);
    let picture = inspect(None, &["scans/000.png"]).expect(0).json();
    assert_eq!(picture[0]["resolution"], 448);
    assert!(inspect(None, &[]).expect(2).stderr.contains("FILE"));
}

#[test]
fn a_checkpoint_is_described() {
    let folder = Folder::new();
    let facts = &folder
        .run(&["inspect", TINY, "--format", "json"])
        .expect(0)
        .json()[0];
    assert_eq!(
        (&facts["id"], &facts["resolution"]),
        (&"tiny".into(), &56.into())
    );
    assert_eq!(facts["vision"]["width"], 64);
    assert_eq!(facts["tokenizer"], "tokenizer.json");
    assert!(facts["checksum"].as_str().unwrap().starts_with("sha256:"));
    let bytes = std::fs::metadata(format!("{TINY}/model.safetensors"))
        .unwrap()
        .len();
    let parameters = facts["parameters"].as_u64().unwrap();
    assert!(
        parameters * 4 <= bytes && bytes < parameters * 4 + 20_000,
        "{parameters} in {bytes}"
    );
}

#[test]
fn what_is_no_picture_is_an_error() {
    let folder = Folder::new();
    folder.write("torn.png", b"\x89PNG\r\n\x1a\n");
    assert!(
        folder
            .run(&["inspect", "torn.png"])
            .expect(2)
            .stderr
            .contains("error[BAD_IMAGE]")
    );
    assert!(
        folder
            .run(&["inspect", "none.png"])
            .expect(2)
            .stderr
            .contains("error[IO_ERROR]")
    );
    assert!(
        folder
            .run(&["inspect", "nothing"])
            .expect(2)
            .stderr
            .contains("hint:")
    );
    // Looks like a hub id, and is a mistyped path: nobody is asked for it.
    let answer = folder.run(&["inspect", "DOE_JOHN/IM0001"]).expect(2);
    assert!(answer.stderr.contains("error[IO_ERROR]"), "{answer:#?}");
}

#[test]
fn a_converted_checkpoint_gives_the_same_embeddings() {
    let folder = Folder::with_pictures(1);
    folder
        .run(&["convert", "--output", "copy", "--max-shard-size", "500KB"])
        .expect(0);
    let rows = |model: &str| {
        let answer = folder
            .run(&["embed", "scans", "--text", "a", "--model", model])
            .expect(0);
        answer
            .json()
            .iter()
            .flat_map(embedding)
            .collect::<Vec<f32>>()
    };
    assert_eq!(rows("copy"), rows(TINY));
    assert!(
        folder
            .run(&["convert", "--output", "copy"])
            .expect(2)
            .stderr
            .contains("empty")
    );
}

#[test]
fn help_version_and_completions_go_to_standard_output() {
    let folder = Folder::new();
    let version = folder.run(&["--version"]).expect(0).stdout;
    assert!(
        version.starts_with(concat!("medsiglip ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    assert!(
        folder
            .run(&["--help"])
            .expect(0)
            .stdout
            .contains("Not for clinical use")
    );
    assert!(
        folder
            .run(&["completions", "bash"])
            .expect(0)
            .stdout
            .contains("_medsiglip")
    );
    assert!(folder.run(&[]).expect(2).stdout.is_empty());
}

#[test]
fn a_folder_of_pictures_is_no_checkpoint() {
    let folder = Folder::with_pictures(1);
    let answer = folder.run(&["inspect", "scans"]).expect(2);
    assert!(
        answer.stderr.contains("no checkpoint") && answer.stderr.contains("one file"),
        "{answer:#?}"
    );
}
