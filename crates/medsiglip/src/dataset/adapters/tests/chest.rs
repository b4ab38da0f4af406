use std::io::Write;

use super::*;

const NIH: &str = "\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_000.png,Cardiomegaly,0,1,058,M,PA,2682,2749,0.143,0.143,
00000001_001.png,Effusion|Pleural_Thickening|Nodule,1,1,058,M,PA,2894,2729,0.143,0.143,
00000002_000.png,No Finding,0,2,081,M,AP,2500,2048,0.171,0.171,
00000013_005.png,Infiltration|Pneumonia,5,13,060,F,AP,2500,2048,0.139,0.139,
";

const NIH_PICTURES: [&str; 4] = [
    "images_001/images/00000001_000.png",
    "images_001/images/00000001_001.png",
    "images_001/images/00000002_000.png",
    "images_002/images/00000013_005.png",
];

#[test]
fn nih_cxr14() {
    let lists = [
        ("Data_Entry_2017.csv", NIH),
        (
            "train_val_list.txt",
            "00000001_000.png\n00000001_001.png\n00000002_000.png\n",
        ),
        ("test_list.txt", "00000013_005.png"),
    ];
    let folder = folder(&lists, &NIH_PICTURES);
    let source = open("nih-cxr14", &folder);
    answers_its_tasks(&source);
    assert_eq!(source.examples.len(), 4);
    let second = example(&source, "00000001_001.png");
    assert!(picture(second).ends_with("images_001/images/00000001_001.png"));
    assert_eq!(second.group.as_deref(), Some("1"));
    assert_eq!(
        labels(
            second,
            &[
                "Pleural Effusion",
                "Pleural Other",
                "Lung Lesion",
                "Nodule",
                "Mass",
                "Cardiomegaly"
            ]
        ),
        "Pleural Effusion=1 Pleural Other=1 Lung Lesion=1 Nodule=1 Mass=0 Cardiomegaly=0"
    );
    // What ChestX-ray14 does not look for is not known.
    assert_eq!(
        labels(
            second,
            &[
                "Lung Opacity",
                "Fracture",
                "Support Devices",
                "cxr_pneumonia",
                "view",
                "age",
                "sex",
                "split"
            ]
        ),
        "Lung Opacity= Fracture= Support Devices= cxr_pneumonia= view=PA age=058 sex=M split=train"
    );
    let normal = example(&source, "00000002_000.png");
    assert_eq!(
        labels(normal, &["No Finding", "cxr_pneumonia", "Pneumonia"]),
        "No Finding=1 cxr_pneumonia=No finding Pneumonia=0"
    );
    let last = example(&source, "00000013_005.png");
    assert_eq!(
        labels(last, &["cxr_pneumonia", "Infiltration", "split"]),
        "cxr_pneumonia=Pneumonia Infiltration=1 split=test"
    );
    assert_eq!(
        source.warnings,
        ["source s: its owners' own split is not used; split = \"split\" follows it"]
    );

    let source = open_with("nih-cxr14", folder.path(), "split = \"split\"").unwrap();
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
    assert_eq!(sides, [Side::Train, Side::Train, Side::Train, Side::Test]);
}

#[test]
fn nih_cxr14_of_2020_without_lists() {
    let text = NIH.replace("Patient Gender", "Patient Sex");
    let folder = folder(&[("Data_Entry_2017_v2020.csv", &text)], &NIH_PICTURES);
    let source = open("nih-cxr14", &folder);
    assert_eq!(
        labels(&source.examples[3], &["sex", "split"]),
        "sex=F split="
    );
    assert!(source.warnings.is_empty(), "{:?}", source.warnings);
    let error = open_with("nih-cxr14", folder.path(), "split = \"split\"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "source s: no example has a value of split"
    );
}

#[test]
fn pictures_that_are_not_there_are_counted() {
    let folder = folder(&[("Data_Entry_2017.csv", NIH)], &NIH_PICTURES[..3]);
    let error = open_with("nih-cxr14", folder.path(), "").unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    let source = open_with("nih-cxr14", folder.path(), "max_skipped = 1").unwrap();
    assert_eq!((source.examples.len(), source.skipped.total()), (3, 1));
}

#[test]
fn unknown_findings_and_columns_are_named_by_their_place_alone() {
    let text = NIH.replace("Infiltration|Pneumonia", "Infiltration|Secret");
    let folder_ = folder(&[("Data_Entry_2017.csv", &text)], &NIH_PICTURES);
    let message = error("nih-cxr14", &folder_);
    assert!(
        message.starts_with(
            "label file: row 4, column Finding Labels: expected findings of ChestX-ray14 or No Finding: "
        ),
        "{message}"
    );
    assert!(message.ends_with("Data_Entry_2017.csv") && !message.contains("Secret"));

    let text = NIH.replace("Patient ID", "Patient");
    let folder_ = folder(&[("Data_Entry_2017.csv", &text)], &NIH_PICTURES);
    let message = error("nih-cxr14", &folder_);
    assert!(
        message.contains("there is no column Patient ID or patient: "),
        "{message}"
    );

    let text = NIH.replace("00000002_000.png,No Finding,", "00000002_000.png,");
    let folder = folder(&[("Data_Entry_2017.csv", &text)], &NIH_PICTURES);
    let message = error("nih-cxr14", &folder);
    assert!(
        message.contains("row 3: 11 cells, and 12 in the header"),
        "{message}"
    );
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

#[test]
fn mimic_cxr_jpg_as_physionet_packs_it() {
    let picture_path = "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg";
    let other = "files/p10/p10000032/s53189527/2a2277a9-b0ded155.jpg";
    let third = "files/p11/p11000011/s51029426/9cef64a8-24dd1ccb.jpg";
    let folder = folder(&[], &[picture_path, other, third]);
    let tables = [
        (
            "mimic-cxr-2.0.0-chexpert.csv.gz",
            "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,\
             Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n\
             10000032,50414267,,,,,,,,,1.0,,,,,\n\
             10000032,53189527,-1.0,1.0,,,,,,,,0.0,,,,\n",
        ),
        (
            "mimic-cxr-2.0.0-split.csv.gz",
            "dicom_id,study_id,subject_id,split\n\
             02aa804e-bde0afdd,50414267,10000032,train\n\
             2a2277a9-b0ded155,53189527,10000032,train\n\
             9cef64a8-24dd1ccb,51029426,11000011,validate\n",
        ),
        (
            "mimic-cxr-2.0.0-metadata.csv.gz",
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,\
             StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,\
             PatientOrientationCodeSequence_CodeMeaning\n\
             02aa804e-bde0afdd,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,CHEST (PA AND LAT),\
             postero-anterior,Erect\n",
        ),
    ];
    for (name, text) in tables {
        write(folder.path(), name, &gzip(text));
    }
    let source = open_with("mimic-cxr-jpg", folder.path(), "split = \"split\"").unwrap();
    answers_its_tasks(&source);
    assert!(picture(&source.examples[0]).ends_with(picture_path));
    let first = example(&source, "02aa804e-bde0afdd");
    assert_eq!(
        labels(first, &["No Finding", "view", "split"]),
        "No Finding=1 view=PA split=train"
    );
    let second = example(&source, "2a2277a9-b0ded155");
    assert_eq!(
        labels(
            second,
            &["Atelectasis", "Cardiomegaly", "Pleural Effusion", "view"]
        ),
        "Atelectasis= Cardiomegaly=1 Pleural Effusion=0 view="
    );
    // A study without labels has none.
    let third = example(&source, "9cef64a8-24dd1ccb");
    assert_eq!(
        labels(third, &["Cardiomegaly", "split"]),
        "Cardiomegaly= split=val"
    );
    assert_eq!(third.group.as_deref(), Some("11000011"));
    let [warning] = &source.warnings[..] else {
        panic!("{:?}", source.warnings);
    };
    assert!(
        warning.contains("MedSigLIP was trained on pictures of mimic-cxr-jpg"),
        "{warning}"
    );

    std::fs::write(
        folder.path().join("mimic-cxr-2.0.0-split.csv.gz"),
        b"\x1f\x8bno",
    )
    .unwrap();
    let message = error("mimic-cxr-jpg", &folder);
    assert!(
        message.starts_with("label file: not a readable gzip file: "),
        "{message}"
    );
}

#[test]
fn rsna_pneumonia() {
    let labels_csv = "patientId,x,y,width,height,Target\n\
        0004cfab,,,,,0\n00436515,264.0,152.0,213.0,379.0,1\n00436515,562.0,152.0,256.0,453.0,1\n003d8fa0,,,,,0\n";
    let classes = "patientId,class\n0004cfab,No Lung Opacity / Not Normal\n00436515,Lung Opacity\n\
        00436515,Lung Opacity\n003d8fa0,Normal\n";
    let pictures = [
        "stage_2_train_images/0004cfab.dcm",
        "stage_2_train_images/00436515.dcm",
        "stage_2_train_images/003d8fa0.dcm",
    ];
    let tables = [
        ("stage_2_train_labels.csv", labels_csv),
        ("stage_2_detailed_class_info.csv", classes),
    ];
    let folder_ = folder(&tables, &pictures);
    let source = open("rsna-pneumonia", &folder_);
    answers_its_tasks(&source);
    let columns = ["Pneumonia", "cxr_pneumonia"];
    let all: Vec<String> = source
        .examples
        .iter()
        .map(|e| labels(e, &columns))
        .collect();
    assert_eq!(
        all,
        [
            "Pneumonia=0 cxr_pneumonia=",
            "Pneumonia=1 cxr_pneumonia=Pneumonia",
            "Pneumonia=0 cxr_pneumonia=No finding"
        ]
    );
    assert!(picture(&source.examples[1]).ends_with("stage_2_train_images/00436515.dcm"));
    assert!(source.warnings[0].contains("does not say which pictures are of one patient"));

    let wrong = labels_csv.replace("562.0,152.0,256.0,453.0,1", ",,,,0");
    let folder_ = folder(&[("stage_2_train_labels.csv", &wrong)], &pictures);
    let message = error("rsna-pneumonia", &folder_);
    assert!(
        message.contains("row 3, column Target: another value than an earlier row"),
        "{message}"
    );
    assert!(!message.contains("00436515"));
}
