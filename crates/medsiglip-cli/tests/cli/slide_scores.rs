//! Slides: scores from those of the tiles, heat maps, GeoJSON.

use serde_json::Value;

use crate::folder::{answer, json_lines};
use crate::slides::{SIZE, TILES, with_slide};

const LABELS: [&str; 2] = ["--labels", "tumor,normal tissue"];

#[test]
fn a_slide_is_scored_by_its_tiles() {
    let folder = with_slide();
    let args = [
        &["classify", "slide.png", "--top-k", "3"],
        &TILES[..],
        &LABELS,
    ]
    .concat();
    let mut lines = folder.run(&args).expect(0).json();
    let slide = lines.pop().unwrap();
    assert_eq!(
        (&slide["id"], &slide["kind"]),
        (&"slide.png".into(), &"slide".into())
    );
    assert_eq!(
        (&slide["tiles"], &slide["note"]),
        (&35.into(), &"not for clinical use".into())
    );
    for class in 0..2 {
        for score in ["cosine", "probability", "softmax"] {
            let value = |line: &Value| line["scores"][class][score].as_f64().unwrap();
            let mut all: Vec<f64> = lines.iter().map(value).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let expected = [
                ("mean", mean(&all)),
                ("top_k_mean", mean(&all[..3])),
                ("max", all[0]),
            ];
            for (name, expected) in expected {
                let got = slide["scores"][class][score][name].as_f64().unwrap();
                assert!(
                    (got - expected).abs() < 1e-6,
                    "{class} {score} {name}: {got} {expected}"
                );
            }
        }
    }
    let table = folder
        .run(&[&args[..], &["--format", "table"]].concat())
        .expect(0);
    assert!(table.stdout.contains("slide.png (35 tiles)") && table.stdout.contains("top 3"));
    assert_eq!(table.stdout.matches("Not for clinical use.").count(), 1);
    folder
        .run(&[&args[..], &["--output", "out.csv"]].concat())
        .expect(0);
    assert_eq!(folder.text("out.csv").lines().count(), 1 + 2 * 35);
    let slides = folder.text("out.csv.slides.csv");
    assert_eq!(slides.lines().count(), 1 + 2);
    assert!(
        slides
            .lines()
            .skip(1)
            .all(|line| line.ends_with("not for clinical use"))
    );
}

#[test]
fn a_heat_map_and_geojson_show_the_scores() {
    let folder = with_slide();
    let args = [
        &["classify", "slide.png", "--heatmap", "map.png"],
        &TILES[..],
        &LABELS,
    ]
    .concat();
    let lines = folder.run(&args).expect(0).json();
    let map = image::open(folder.path("map.png")).unwrap();
    assert!(map.width() >= SIZE.0 && map.height() > SIZE.1);
    let json = &json_lines(&folder.text("map.geojson").replace('\n', ""))[0];
    assert_eq!(
        (&json["type"], &json["note"]),
        (&"FeatureCollection".into(), &"not for clinical use".into())
    );
    let features = json["features"].as_array().unwrap();
    assert_eq!(features.len(), 35);
    for (feature, line) in features.iter().zip(&lines) {
        let ring = &feature["geometry"]["coordinates"][0];
        let (x, y) = (line["x"].as_i64().unwrap(), line["y"].as_i64().unwrap());
        assert_eq!((&ring[0], &ring[4]), (&serde_json::json!([x, y]), &ring[0]));
        assert_eq!(ring[2], serde_json::json!([x + 64, y + 64]));
        let properties = &feature["properties"];
        assert_eq!(properties["objectType"], "tile");
        let shares = [0, 1].map(|i| line["scores"][i]["softmax"].as_f64().unwrap());
        let best = if shares[0] > shares[1] {
            "tumor"
        } else {
            "normal tissue"
        };
        assert_eq!(properties["classification"]["name"], best);
        assert_eq!(properties["measurements"][0]["name"], "softmax: tumor");
        assert_eq!(
            properties["measurements"][0]["value"].as_f64().unwrap(),
            shares[0]
        );
    }
    let answer = folder.run(&args).expect(2);
    assert!(
        answer.stderr.contains("the output exists: map.png"),
        "{answer:#?}"
    );
    let other = [&args[..], &["--overwrite", "--heatmap-class", "lung"]].concat();
    assert!(
        folder
            .run(&other)
            .expect(2)
            .stderr
            .contains("one of tumor, normal tissue")
    );
}

#[test]
fn heat_maps_of_several_slides_go_into_a_folder_with_the_output() {
    let folder = with_slide();
    folder.slide("other.png", 9);
    let args = [
        "classify",
        "slide.png",
        "other.png",
        "--heatmap",
        "maps",
        "--output",
        "out.jsonl",
    ];
    let args = [&args, &TILES[..], &LABELS].concat();
    folder.run(&args).expect(0);
    assert!(!folder.exists("out.jsonl.part"));
    for name in ["slide.png", "slide.geojson", "other.png", "other.geojson"] {
        assert!(folder.exists(&format!("maps/{name}")), "{name}");
    }
    let lines = json_lines(&folder.text("out.jsonl"));
    let slides: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] == "slide")
        .collect();
    assert_eq!((slides.len(), lines.len()), (2, 2 * 36));
}

#[test]
fn where_one_of_several_slides_is_bad_the_place_is_still_a_folder() {
    let folder = with_slide();
    folder.write("torn.png", "");
    let args = [
        "classify",
        "slide.png",
        "torn.png",
        "--heatmap",
        "maps",
        "--overview",
        "looks",
    ];
    folder.run(&[&args, &TILES[..], &LABELS].concat()).expect(1);
    assert!(folder.exists("maps/slide.png") && folder.exists("looks/slide.png"));
    for flag in ["--heatmap", "--overview"] {
        let args = ["classify", "slide.png", flag, "nowhere/x.png"];
        let answer = folder.run(&[&args, &TILES[..], &LABELS].concat()).expect(2);
        assert!(
            answer.stderr.contains("create the folder first"),
            "{answer:#?}"
        );
        assert!(answer.stdout.is_empty());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_no_heat_map() {
    let folder = with_slide();
    let args = [
        "classify",
        "slide.png",
        "--tile",
        "16",
        "--level",
        "0",
        "--no-tissue",
    ];
    let rest = [
        "--overlap",
        "12",
        "--batch-size",
        "1",
        "--heatmap",
        "map.png",
    ];
    let args = [&args[..], &rest, &LABELS].concat();
    let mut command = folder.command(&args);
    command.stdout(std::fs::File::create(folder.path("out.jsonl")).unwrap());
    let child = command.spawn().unwrap();
    while folder.read("out.jsonl").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let id = child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(kill.unwrap().success());
    answer(child.wait_with_output().unwrap()).expect(130);
    assert_eq!(folder.outputs(), ["out.jsonl", "slide.png"]);
}
