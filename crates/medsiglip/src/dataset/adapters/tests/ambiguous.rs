//! Pictures that may be another row's, rows without a patient, classes outside a task.

use super::*;

#[test]
fn a_name_that_several_files_have_is_nobodys() {
    let table = "image,level\n10_left,0\n10_right,1\n13_left,2\n";
    let pictures = [
        "a/10_left.jpeg",
        "b/10_left.jpeg",
        "a/10_right.jpeg",
        "a/13_left.jpeg",
        "a/13_left.png",
    ];
    let folder_ = folder(&[("trainLabels.csv", table)], &pictures);
    let error = open_with("eyepacs", folder_.path(), "").unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let source = open_with("eyepacs", folder_.path(), "max_skipped = 0.7").unwrap();
    assert_eq!(source.examples.len(), 1);
    assert!(picture(&source.examples[0]).ends_with("a/10_right.jpeg"));
    assert_eq!(
        reasons(&source),
        [("picture whose name several files have", 2)]
    );
    assert!(source.skipped.listed[0].contains("trainLabels.csv: row 1: "));
    let told = source.skipped.warning("s").unwrap();
    assert!(!told.contains("10_left"), "{told}");
}

#[test]
fn a_path_tells_files_of_one_name_apart() {
    let header = "lesion,path,label\n";
    let pictures = ["a/1.png", "b/1.png", "1.png"];
    let table = format!("{header}x,a/1.png,nv\ny,b/1.png,mel\nz,1.png,nv\n");
    let source = open("ham10000", &folder(&[("labels.csv", &table)], &pictures));
    for (example, expected) in source.examples.iter().zip(pictures) {
        assert!(picture(example).ends_with(expected), "{}", picture(example));
    }
}

/// Both rows come to the one file that is there: one of them, and nobody knows which, lacks its picture.
#[test]
fn two_rows_of_one_file_are_left_out() {
    let table = "lesion,path,label\nx,a/1.png,nv\ny,b/1.png,mel\nz,2.png,nv\n";
    let folder_ = folder(&[("labels.csv", table)], &["1.png", "2.png"]);
    let source = open_with("ham10000", folder_.path(), "max_skipped = 0.7").unwrap();
    assert_eq!(source.examples.len(), 1);
    assert_eq!(source.examples[0].id, "2.png");
    assert_eq!(reasons(&source), [("picture that another row has too", 2)]);
}

#[test]
fn idrid_beside_the_pictures_of_its_other_tasks() {
    let labels_csv = "Image name,Retinopathy grade,Risk of macular edema\nIDRiD_001,3,2\n";
    let tables = [(
        "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
        labels_csv,
    )];
    let pictures = [
        "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg",
        "C. Localization/1. Original Images/a. Training Set/IDRiD_001.jpg",
    ];
    let source = open("idrid", &folder(&tables, &pictures));
    assert!(picture(&source.examples[0]).ends_with(pictures[0]));
}

/// The label file of the test set, named, is no training set: both sides count their pictures from one on.
#[test]
fn a_named_label_file_has_the_side_of_its_name() {
    let testing = "b. IDRiD_Disease Grading_Testing Labels.csv";
    let labels_csv = "Image name,Retinopathy grade,Risk of macular edema\nIDRiD_001,3,2\n";
    let pictures = [
        "a. Training Set/IDRiD_001.jpg",
        "b. Testing Set/IDRiD_001.jpg",
    ];
    let folder_ = folder(&[(testing, labels_csv)], &pictures);
    let more = format!("label_files = \"{testing}\"");
    let source = open_with("idrid", folder_.path(), &more).unwrap();
    assert_eq!(source.examples.len(), 1);
    assert!(picture(&source.examples[0]).ends_with(pictures[1]));
    assert_eq!(labels(&source.examples[0], &["split"]), "split=test");
}

#[test]
fn label_files_where_there_are_none_are_refused() {
    let folder_ = folder(&[("l.csv", "")], &["NCT-CRC-HE-100K/ADI/ADI-1.tif"]);
    for (adapter, wrong) in [
        ("nct-crc-he", "label_files: nct-crc-he has none"),
        ("pcam", "label_files: expected the folder of the .h5 files"),
    ] {
        let error = open_with(adapter, folder_.path(), "label_files = \"l.csv\"").unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
    // A named file is read, and not passed over for the folders.
    let table = "path,label,group\n1.jpeg,lung adenocarcinoma,g\n";
    let folder_ = folder(&[("mine.csv", table)], &["lung_n/1.jpeg"]);
    let source = open_with("lc25000", folder_.path(), "label_files = \"mine.csv\"").unwrap();
    assert_eq!(labels(&source.examples[0], &["label"]), "label=lung_aca");
}

#[test]
fn rows_without_a_lesion_are_counted() {
    let truth = "image,MEL,NV\nISIC_1,0,1\nISIC_2,1,0\nISIC_3,1,0\n";
    let metadata = "image,lesion_id\nISIC_1,\nISIC_2,BCN_3\nISIC_3,\n";
    let tables = [
        ("ISIC_2019_Training_GroundTruth.csv", truth),
        ("ISIC_2019_Training_Metadata.csv", metadata),
    ];
    let source = open(
        "isic",
        &folder(&tables, &["ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg"]),
    );
    let told = "source s: 2 of 3 pictures have no patient, lesion or slide in the label files; ";
    assert!(
        source.warnings.iter().any(|w| w.starts_with(told)),
        "{:?}",
        source.warnings
    );
}

#[test]
fn classes_outside_the_task_are_counted() {
    let rows = "lesion_id,image_id,dx\nL1,I1,bkl\nL2,I2,mel\nL3,I3,akiec\n";
    let pictures = ["I1.jpg", "I2.jpg", "I3.jpg"];
    let source = open(
        "ham10000",
        &folder(&[("HAM10000_metadata.csv", rows)], &pictures),
    );
    assert_eq!(
        source.warnings,
        [
            "source s: 2 of 3 pictures have a class that the task skin_conditions does not have, and no value there"
        ]
    );
    let rows = rows.replace("bkl", "nv").replace("akiec", "bcc");
    let source = open(
        "ham10000",
        &folder(&[("HAM10000_metadata.csv", &rows)], &pictures),
    );
    assert!(source.warnings.is_empty(), "{:?}", source.warnings);
}

#[test]
fn one_isic_challenge_of_two_is_named() {
    let truth = "image,MEL,NV\nISIC_1,0,1\n";
    let (of_2018, of_2019) = (
        "ISIC2018_Task3_Training_GroundTruth.csv",
        "ISIC_2019_Training_GroundTruth.csv",
    );
    let validation = (
        "ISIC2018_Task3_Validation_GroundTruth.csv",
        "image,MEL,NV\nISIC_2,1,0\n",
    );
    let pictures = ["ISIC_1.jpg", "ISIC_2.jpg"];
    for others in [
        &[(of_2018, truth)][..],
        &[validation],
        &[(of_2018, truth), validation],
    ] {
        let tables = [others, &[(of_2019, truth)]].concat();
        let folder_ = folder(&tables, &pictures);
        let message = error("isic", &folder_);
        assert!(
            message.contains("label files of ISIC 2018 and 2019 lie here"),
            "{message}"
        );
        let more = format!("label_files = \"{of_2019}\"");
        let source = open_with("isic", folder_.path(), &more).unwrap();
        assert_eq!(source.examples.len(), 1);
        assert_eq!(
            labels(&source.examples[0], &["split", "label"]),
            "split=train label=NV"
        );
    }
    let source = open("isic", &folder(&[(of_2018, truth), validation], &pictures));
    let sides: Vec<String> = source
        .examples
        .iter()
        .map(|e| labels(e, &["split"]))
        .collect();
    assert_eq!(sides, ["split=train", "split=val"]);
}

#[test]
fn ham10000_with_its_test_set_as_dataverse_gives_both() {
    let rows = |id: &str, dx: &str| {
        format!(
            "\"lesion_id\"\t\"image_id\"\t\"dx\"\t\"age\"\nHAM_{id}\tISIC_{id}\t\"{dx}\"\t80.0\n"
        )
    };
    let (train, test) = (rows("1", "nv"), rows("2", "mel"));
    let tables = [
        ("HAM10000_metadata.tab", &*train),
        ("ISIC2018_Task3_Test_GroundTruth.tab", &*test),
    ];
    let pictures = [
        "HAM10000_images_part_1/ISIC_1.jpg",
        "ISIC2018_Task3_Test_Images/ISIC_2.jpg",
    ];
    let source = open("ham10000", &folder(&tables, &pictures));
    let all: Vec<String> = source
        .examples
        .iter()
        .map(|e| labels(e, &["split", "label"]))
        .collect();
    assert_eq!(all, ["split=train label=nv", "split=test label=mel"]);
    // The challenge's own file of that name has no dx.
    let tables = [
        ("HAM10000_metadata.tab", &*train),
        (
            "ISIC2018_Task3_Test_GroundTruth.csv",
            "image,MEL,NV\nISIC_2,1,0\n",
        ),
    ];
    let source = open("ham10000", &folder(&tables, &pictures));
    assert_eq!(
        labels(&source.examples[0], &["split", "label"]),
        "split= label=nv"
    );
    assert!(
        source.warnings[0].contains("has no column dx and is not read"),
        "{:?}",
        source.warnings
    );
}
