use super::*;

const CHEXPERT_HEADER: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,\
    Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,\
    Fracture,Support Devices\n";

fn chexpert() -> TempDir {
    let row = |path: &str, rest: &str| format!("CheXpert-v1.0-small/{path},{rest}\n");
    let train = [
        CHEXPERT_HEADER.to_owned(),
        row(
            "train/patient00001/study1/view1_frontal.jpg",
            "Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        ),
        row(
            "train/patient00002/study2/view1_frontal.jpg",
            "Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        ),
        row(
            "train/patient00002/study1/view2_lateral.jpg",
            "Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,",
        ),
    ]
    .concat();
    let valid = [
        CHEXPERT_HEADER.to_owned(),
        row(
            "valid/patient64541/study1/view1_frontal.jpg",
            "Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        ),
    ]
    .concat();
    let test = "Path,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,\
        Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n\
        test/patient64741/study1/view1_frontal.jpg,0,0,1,0,0,0,0,0,0,1,0,0,1\n";
    let tables = [
        ("train.csv", &*train),
        ("valid.csv", &*valid),
        ("test_labels.csv", test),
    ];
    let pictures = [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study1/view2_lateral.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
        "test/patient64741/study1/view1_frontal.jpg",
    ];
    folder(&tables, &pictures)
}

#[test]
fn chexpert_by_policy() {
    let folder = chexpert();
    let columns = [
        "Cardiomegaly",
        "Edema",
        "Lung Opacity",
        "Fracture",
        "Pneumothorax",
    ];
    let second = |more: &str| {
        let source = open_with("chexpert", folder.path(), more).unwrap();
        answers_its_tasks(&source);
        let id = "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg";
        labels(example(&source, id), &columns)
    };
    assert_eq!(
        second(""),
        "Cardiomegaly= Edema= Lung Opacity=1 Fracture=1 Pneumothorax="
    );
    assert_eq!(
        second("findings.uncertain = \"zeros\""),
        "Cardiomegaly=0 Edema=0 Lung Opacity=1 Fracture=1 Pneumothorax="
    );
    assert_eq!(
        second("findings.uncertain = \"ones\"\nfindings.unmentioned = \"zeros\""),
        "Cardiomegaly=1 Edema=1 Lung Opacity=1 Fracture=1 Pneumothorax=0"
    );
    assert_eq!(
        second(
            "findings.uncertain = \"zeros\"\nfindings.uncertain_by_finding = { Edema = \"ones\" }"
        ),
        "Cardiomegaly=0 Edema=1 Lung Opacity=1 Fracture=1 Pneumothorax="
    );
}

#[test]
fn chexpert_sides_and_patients() {
    let folder = chexpert();
    let source = open_with("chexpert", folder.path(), "split = \"split\"").unwrap();
    assert!(source.warnings.is_empty());
    let sides = split(
        &source,
        Shares {
            val: 0.0,
            test: 0.0,
        },
        0,
        &[],
    )
    .unwrap();
    assert_eq!(
        sides,
        [Side::Train, Side::Train, Side::Train, Side::Val, Side::Test]
    );
    let groups: Vec<_> = source
        .examples
        .iter()
        .map(|e| e.group.as_deref().unwrap())
        .collect();
    assert_eq!(
        groups,
        [
            "patient00001",
            "patient00002",
            "patient00002",
            "patient64541",
            "patient64741"
        ]
    );
    let lateral = &source.examples[2];
    assert_eq!(
        labels(lateral, &["projection", "view", "sex"]),
        "projection=lateral view= sex=Female"
    );
    let test = &source.examples[4];
    assert_eq!(
        labels(
            test,
            &["Pleural Effusion", "Fracture", "No Finding", "projection"]
        ),
        "Pleural Effusion=1 Fracture=0 No Finding= projection=frontal"
    );
}

#[test]
fn chexpert_refuses_what_is_no_label() {
    let folder = chexpert();
    let path = folder.path().join("train.csv");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(",-1.0,1.0,1.0,", ",,")
        .replacen("1.0,,,,", "2.0,,,,", 1);
    std::fs::write(&path, text).unwrap();
    let message = error("chexpert", &folder);
    assert!(
        message.contains(
            "row 1, column No Finding: expected 1, 0, true, false, -1 (uncertain) or nothing: "
        ),
        "{message}"
    );
}

/// As Stanford AIMI gives it out: the label files beside the validation set, the patients of training in three folders of
/// their own, which have no `train` between them and the patients.
fn aimi() -> TempDir {
    let row =
        |path: &str| format!("CheXpert-v1.0/{path},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n");
    let train = [
        CHEXPERT_HEADER.to_owned(),
        row("train/patient00001/study1/view1_frontal.jpg"),
        row("train/patient30000/study1/view1_frontal.jpg"),
        row("train/patient50000/study2/view1_frontal.jpg"),
    ]
    .concat();
    let valid = [
        CHEXPERT_HEADER.to_owned(),
        row("valid/patient64541/study1/view1_frontal.jpg"),
    ]
    .concat();
    let other = train.replace("1.0\n", "0.0\n");
    let tables = [
        ("CheXpert-v1.0 batch 1 (validate & csv)/train.csv", &*train),
        ("CheXpert-v1.0 batch 1 (validate & csv)/valid.csv", &*valid),
        ("train_visualCheXbert.csv", &*other),
        ("mine.csv", &*other),
    ];
    folder(&tables, &AIMI_PICTURES)
}

const AIMI_PICTURES: [&str; 4] = [
    "CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg",
    "CheXpert-v1.0 batch 3 (train 2)/patient30000/study1/view1_frontal.jpg",
    "CheXpert-v1.0 batch 4 (train 3)/train/patient50000/study2/view1_frontal.jpg",
    "CheXpert-v1.0 batch 1 (validate & csv)/valid/patient64541/study1/view1_frontal.jpg",
];

#[test]
fn chexpert_as_stanford_gives_it_out() {
    let folder = aimi();
    let batch = folder.path().join("CheXpert-v1.0 batch 1 (validate & csv)");
    for place in [folder.path(), &batch] {
        let source = open_with("chexpert", place, "split = \"split\"").unwrap();
        assert_eq!(source.skipped.total(), 0);
        let pictures: Vec<String> = source.examples.iter().map(picture).collect();
        assert_eq!(pictures.len(), 4);
        for (picture, expected) in pictures.iter().zip(AIMI_PICTURES) {
            assert!(picture.ends_with(expected), "{picture}");
        }
    }
}

#[test]
fn chexpert_of_a_named_label_file_alone() {
    let folder = aimi();
    let read = |file: &str| {
        let more = format!("label_files = \"{file}\"");
        let source = open_with("chexpert", folder.path(), &more).unwrap();
        let labels = |e: &Example| labels(e, &["split", "Support Devices"]);
        source.examples.iter().map(labels).collect::<Vec<_>>()
    };
    assert_eq!(
        read("train_visualCheXbert.csv"),
        ["split=train Support Devices=0"; 3]
    );
    // Nobody knows which side this is.
    assert_eq!(read("mine.csv"), ["split= Support Devices=0"; 3]);
    let valid = "CheXpert-v1.0 batch 1 (validate & csv)/valid.csv";
    assert_eq!(read(valid), ["split=val Support Devices=1"]);
}

/// The small and the full set side by side have the same patients: the owners' path says which it is.
#[test]
fn chexpert_of_two_sizes() {
    let row = |archive: &str| {
        let path = format!("{archive}/train/patient00001/study1/view1_frontal.jpg");
        format!("{CHEXPERT_HEADER}{path},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n")
    };
    let pictures = [
        "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg",
        "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg",
    ];
    for picture_of in ["CheXpert-v1.0", "CheXpert-v1.0-small"] {
        let folder = folder(&[("train.csv", &row(picture_of))], &pictures);
        let source = open("chexpert", &folder);
        let expected = format!("/{picture_of}/train/patient00001/study1/view1_frontal.jpg");
        assert!(picture(&source.examples[0]).ends_with(&expected));
    }
    let folder = folder(&[("train.csv", &row("renamed"))], &pictures);
    let error = open_with("chexpert", folder.path(), "")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 of 1 examples cannot be used (1 picture whose name several files have)"),
        "{error}"
    );
    assert!(!error.contains("patient"), "{error}");
}

#[test]
fn a_policy_for_findings_belongs_to_the_sets_that_have_them() {
    let folder_ = folder(&[], &["a/1.png"]);
    for policy in [
        "uncertain = \"ones\"",
        "unmentioned = \"zeros\"",
        "uncertain_by_finding.Edema = \"ones\"",
    ] {
        for kind in [
            "adapter = \"nih-cxr14\"\nfolder = \".\"",
            "folder = \".\"",
            "manifest = \"m.csv\"",
        ] {
            let toml = format!("name = \"s\"\n{kind}\nfindings.{policy}");
            let error = Source::open(toml::from_str(&toml).unwrap(), folder_.path()).unwrap_err();
            assert_eq!(error.code(), "BAD_CONFIG");
            let told = error.to_string();
            assert!(
                told.starts_with("source s: findings: ")
                    && told.contains("chexpert and mimic-cxr-jpg"),
                "{told}"
            );
        }
    }
}
