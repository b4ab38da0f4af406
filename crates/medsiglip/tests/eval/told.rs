//! What a report says of how its numbers came about.

use std::fs;

use medsiglip::eval::page::page;
use medsiglip::eval::report::Report;

use super::{CONFIG, KINDS, Lab, first, noise};

fn caveat(report: &Report, what: &str) -> bool {
    report.caveats.iter().any(|caveat| caveat.contains(what))
}

#[test]
fn a_set_that_medsiglip_was_trained_on_is_named_in_the_report() {
    let lab = Lab::new();
    let (mut rows, mut table) = (String::from("image,level\n"), String::from("id,e0,e1\n"));
    for number in 0..40 {
        let name = format!("{}_{}", number / 2, ["left", "right"][number % 2]);
        // It has embeddings: the picture is not looked at.
        fs::write(lab.path(&format!("{name}.jpeg")), "a picture").unwrap();
        rows += &format!("{name},{}\n", number / 2 % 2);
        table += &format!("{name},{},{}\n", noise(number, 0), noise(number, 1));
    }
    fs::write(lab.path("trainLabels.csv"), rows).unwrap();
    fs::write(lab.path("eyes.csv"), table).unwrap();
    let config = r#"
name = "eyes"
replicates = 100
[split]
test = 0.5
search = false
[[encoder]]
name = "e"
embeddings = { eyes = "eyes.csv" }
trained_on = ["eyes"]
[[source]]
name = "eyes"
adapter = "eyepacs"
folder = "."
[[task]]
name = "dr"
source = "eyes"
label = "diabetic_retinopathy"
[task.probe]
folds = 2
"#;
    let (report, ..) = lab.run_all(config).unwrap();
    for what in [
        "MedSigLIP was trained on pictures of eyepacs",
        "its owners' own split is not used",
        "A probe on it is flattered",
    ] {
        assert!(caveat(&report, what), "{what}: {:?}", report.caveats);
    }
}

#[test]
fn scores_of_a_source_that_was_learned_from_are_no_test_either() {
    let lab = Lab::new();
    let table = "embeddings = { pictures = \"good.csv\" }";
    let config = CONFIG.replace(table, &format!("{table}\ntrained_on = [\"pictures\"]"));
    let [a, b, c] = [
        "Benign lung tissue",
        "Lung adenocarcinoma",
        "Lung squamous cell carcinoma",
    ];
    let task = format!(
        "[[task]]\nname = \"kinds\"\nsource = \"pictures\"\nlabel = \"kind\"\n\
         classes = {{ dots = \"{a}\", lines = \"{b}\", rings = \"{c}\" }}\n\
         [task.zero_shot]\nprompts = \"lung_histology\"\n"
    );
    let (report, ..) = lab.run_all(&format!("{config}{task}")).unwrap();
    let what = "Its scores there are no test on unseen data";
    assert!(caveat(&report, what), "{:?}", report.caveats);
    assert!(!caveat(&report, "A probe on it"), "{:?}", report.caveats);
}

#[test]
fn what_is_left_out_is_counted_by_reason_and_named_by_none() {
    let lab = Lab::new();
    fs::remove_file(lab.path("07.bmp")).unwrap();
    fs::write(lab.path("08.bmp"), "").unwrap();
    let config = CONFIG.replace("stratify", "max_skipped = 0.1\nstratify");
    let task = "[[task]]\nname = \"two\"\nsource = \"pictures\"\nlabel = \"kind\"\nclasses = { dots = \"Dots\", lines = \"Lines\" }\n[task.probe]\n";
    let (report, _, warnings) = lab.run_all(&format!("{config}{task}")).unwrap();
    let left_out = &report.sources[0].left_out;
    assert_eq!(left_out["missing picture file"], 1, "{left_out:?}");
    assert_eq!(left_out["empty picture file"], 1, "{left_out:?}");
    let what = "left out 2 (1 empty picture file, 1 missing picture file)";
    assert!(caveat(&report, what), "{:?}", report.caveats);
    // Both were of the third kind, of which 16 are left.
    let what = "two leaves out 16 pictures whose value of kind is none of its classes";
    assert!(caveat(&report, what), "{:?}", report.caveats);
    assert!(
        warnings.iter().any(|warning| warning.contains(what)),
        "{warnings:?}"
    );
    assert!(!caveat(&report, "rings") && !caveat(&report, ".bmp"));
    let page = page(&report, &[]).unwrap();
    assert!(page.contains("1: missing picture file") && !page.contains("could not be read"));
}

#[test]
fn the_settings_tell_the_c_that_was_used() {
    let lab = Lab::new();
    let config = CONFIG.replace("val = 0.2", "val = 0.0");
    let run = |probe: &str| {
        let task = format!(
            "[[task]]\nname = \"kinds\"\nsource = \"pictures\"\nlabel = \"kind\"\n[task.probe]\n{probe}"
        );
        let (report, ..) = lab.run_all(&format!("{config}{task}")).unwrap();
        report.tasks[0].results[0].settings.clone()
    };
    let one = run("C = [0.01]\nfolds = 0");
    assert_eq!(one["C"], "1.000e-2");
    assert_eq!(one["chosen by"], "nothing: one is given");
    let several = run("C = [0.01, 0.1]\nfolds = 0");
    assert_eq!(several["C"], "1.000e0 (too few pictures to choose by)");
}

#[test]
fn a_data_curve_tells_how_its_probes_were_made() {
    let lab = Lab::new();
    let (report, ..) = lab.run(KINDS).unwrap();
    let curve = &report.tasks[0].data_curves[0];
    assert_eq!(
        curve.tuned_on,
        report.tasks[0].counts.iter().map(|of| of[1]).sum::<usize>()
    );
    for point in &curve.points {
        let of = point.auroc.unwrap();
        assert!(of.worst <= of.mean && of.mean <= of.best, "{of:?}");
        assert_eq!(point.repeats + point.without_value, 3);
        // One head a probe, and every C from the grid.
        assert_eq!(point.fits.c.len(), point.repeats);
        assert!(point.fits.c.iter().all(|c| (1e-4..=1e4).contains(c)));
        assert_eq!(point.fits.not_chosen, 0);
        assert!(point.fits.gap <= 1e-6 || point.fits.not_converged > 0);
    }
    let json = serde_json::to_value(curve).unwrap();
    assert!(json["points"][0]["auroc"]["worst"].is_f64(), "{json}");
    let given = KINDS.replace("[task.probe]", "[task.probe]\nC = [0.1]");
    let (report, ..) = lab.run(&given).unwrap();
    assert_eq!(report.tasks[0].data_curves[0].points[0].fits.c, [0.1; 3]);
}

#[test]
fn an_encoder_says_which_columns_of_its_table_are_meant() {
    let lab = Lab::new();
    let good = fs::read_to_string(lab.path("good.csv")).unwrap();
    let (report, ..) = lab.run(KINDS).unwrap();
    let expected = first(&report.tasks[0], "good");
    let rows = good.lines().enumerate().map(|(number, row)| {
        let (id, own) = row.split_once(',').unwrap();
        match number {
            0 => "other,pid,x0,x1,x2,x3,y0,y1\n".to_owned(),
            number => format!(
                "{number},{id},{own},{},{}\n",
                noise(number, 5),
                noise(number, 6)
            ),
        }
    });
    fs::write(lab.path("good.csv"), rows.collect::<String>()).unwrap();
    let with = |keys: &str| {
        let table = "embeddings = { pictures = \"good.csv\" }";
        CONFIG.replace(table, &format!("{table}\n{keys}"))
    };
    let config = with("id_column = \"pid\"\nembedding_column = \"x\"");
    let (report, ..) = lab.run_all(&format!("{config}{KINDS}")).unwrap();
    assert_eq!(first(&report.tasks[0], "good"), expected);
    let config = with("id_column = \"pid\"");
    let error = lab
        .run_all(&format!("{config}{KINDS}"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("embedding_column"), "{error}");
    let of_model = CONFIG.replace(
        "embeddings = { pictures = \"good.csv\" }",
        "model = \"medsiglip-mini\"\nid_column = \"pid\"",
    );
    let error = lab
        .run_all(&format!("{of_model}{KINDS}"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("belong to embeddings"), "{error}");
}

#[test]
fn tables_of_one_encoder_are_of_one_model() {
    let lab = Lab::new();
    let others =
        "[[source]]\nname = \"others\"\nmanifest = \"manifest.csv\"\nlabels = [\"kind\"]\n";
    let tables = "{ pictures = \"good.csv\", others = \"wide.csv\" }";
    let config = CONFIG.replace("{ pictures = \"good.csv\" }", tables);
    let good = fs::read_to_string(lab.path("good.csv")).unwrap();
    let rows = good.lines().enumerate().map(|(number, row)| match number {
        0 => format!("{row},e4\n"),
        number => format!("{row},{number}\n"),
    });
    fs::write(lab.path("wide.csv"), rows.collect::<String>()).unwrap();
    let task = "[[task]]\nname = \"same\"\nsource = \"others\"\nlabel = \"kind\"\n[task.probe]\n";
    let error = lab
        .run_all(&format!("{config}{others}{KINDS}{task}"))
        .unwrap_err();
    assert!(
        error.code() == "BAD_CONFIG" && error.to_string().contains("another width"),
        "{error}"
    );
}
