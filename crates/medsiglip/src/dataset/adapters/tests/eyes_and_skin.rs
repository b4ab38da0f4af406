use super::*;

#[test]
fn eyepacs() {
    let tables = [
        (
            "trainLabels.csv",
            "image,level\n10_left,0\n10_right,4\n13_left,2\n",
        ),
        (
            "retinopathy_solution.csv",
            "image,level,Usage\n1_left,1,Private\n",
        ),
    ];
    let pictures = [
        "train/10_left.jpeg",
        "train/10_right.jpeg",
        "train/13_left.jpeg",
        "test/1_left.jpeg",
    ];
    let folder_ = folder(&tables, &pictures);
    let source = open_with("eyepacs", folder_.path(), "split = \"split\"").unwrap();
    answers_its_tasks(&source);
    let right = example(&source, "10_right");
    assert_eq!(right.group.as_deref(), Some("10"));
    assert_eq!(
        labels(right, &["diabetic_retinopathy", "eye", "split"]),
        "diabetic_retinopathy=Proliferative DR eye=right split=train"
    );
    assert!(picture(right).ends_with("train/10_right.jpeg"));
    assert_eq!(
        labels(
            example(&source, "1_left"),
            &["diabetic_retinopathy", "split"]
        ),
        "diabetic_retinopathy=Mild DR split=test"
    );
    assert!(source.warnings[0].contains("MedSigLIP was trained on pictures of eyepacs"));

    for (text, wrong) in [
        (
            "image,level\n10_left,5\n",
            "row 1, column level: expected a whole number from 0 to 4",
        ),
        (
            "image,level\n10-left,1\n",
            "row 1, column image: expected PATIENT_left or PATIENT_right",
        ),
        ("image,level\n,1\n", "row 1, column image: no value"),
    ] {
        let folder_ = folder(&[("trainLabels.csv", text)], &["10_left.jpeg"]);
        let message = error("eyepacs", &folder_);
        assert!(message.contains(wrong), "{message}");
    }
}

#[test]
fn aptos2019() {
    let tables = [
        (
            "train.csv",
            "id_code,diagnosis\n000c1434d8d7,2\n001639a390f0,4\n",
        ),
        ("test.csv", "id_code\n0005cfc8afb6\n"),
    ];
    let pictures = [
        "train_images/000c1434d8d7.png",
        "train_images/001639a390f0.png",
    ];
    let source = open("aptos2019", &folder(&tables, &pictures));
    answers_its_tasks(&source);
    let columns = ["diabetic_retinopathy", "split"];
    assert_eq!(
        labels(&source.examples[0], &columns),
        "diabetic_retinopathy=Moderate DR split="
    );
    assert!(picture(&source.examples[1]).ends_with("train_images/001639a390f0.png"));
}

#[test]
fn idrid_has_the_same_names_on_both_sides() {
    let header = "Image name,Retinopathy grade,Risk of macular edema ";
    let training = format!("{header},,,,,,,,,\nIDRiD_001,3,2,,,,,,,,,\nIDRiD_002,0,0,,,,,,,,,\n");
    let testing = format!("{header}\nIDRiD_001,4,0\n");
    let tables = [
        (
            "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
            &*training,
        ),
        (
            "B. Disease Grading/2. Groundtruths/b. IDRiD_Disease Grading_Testing Labels.csv",
            &*testing,
        ),
    ];
    let pictures = [
        "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg",
        "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_002.jpg",
        "B. Disease Grading/1. Original Images/b. Testing Set/IDRiD_001.jpg",
    ];
    let folder = folder(&tables, &pictures);
    let source = open("idrid", &folder);
    answers_its_tasks(&source);
    let columns = ["diabetic_retinopathy", "dme_risk", "split"];
    for (id, end, expected) in [
        (
            "train/IDRiD_001",
            pictures[0],
            "diabetic_retinopathy=Severe DR dme_risk=2 split=train",
        ),
        (
            "test/IDRiD_001",
            pictures[2],
            "diabetic_retinopathy=Proliferative DR dme_risk=0 split=test",
        ),
    ] {
        assert!(picture(example(&source, id)).ends_with(end));
        assert_eq!(labels(example(&source, id), &columns), expected);
    }
}

const PAD: &str = "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,\
    skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,\
    diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed\n\
    PAT_1516,1765,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,False,PAT_1516_1765_530.png,False\n\
    PAT_46,881,False,False,POMERANIA,POMERANIA,55,False,FEMALE,True,True,True,True,3.0,NECK,6.0,5.0,BCC,True,True,False,\
    True,True,True,PAT_46_881_939.png,True\n";

#[test]
fn pad_ufes20() {
    let pictures = [
        "imgs_part_1/PAT_1516_1765_530.png",
        "imgs_part_2/PAT_46_881_939.png",
    ];
    let source = open("pad-ufes20", &folder(&[("metadata.csv", PAD)], &pictures));
    answers_its_tasks(&source);
    let second = example(&source, "PAT_46_881_939.png");
    assert_eq!(second.group.as_deref(), Some("PAT_46"));
    assert_eq!(
        labels(
            second,
            &[
                "label",
                "skin_conditions",
                "fitzpatrick",
                "sex",
                "localization"
            ]
        ),
        "label=BCC skin_conditions=Basal Cell Carcinoma fitzpatrick=3.0 sex=FEMALE localization=NECK"
    );
    assert!(source.warnings[0].contains("MedSigLIP was trained on pictures of pad-ufes20"));
    let wrong = PAD.replace(",NEV,", ",XXX,");
    let message = error(
        "pad-ufes20",
        &folder(&[("metadata.csv", &wrong)], &pictures),
    );
    assert!(
        message.contains("row 1, column diagnostic: expected one of ACK, BCC, MEL, NEV, SCC, SEK"),
        "{message}"
    );
    assert!(!message.contains("XXX") && !message.contains("PAT_1516"));
}

#[test]
fn ham10000_from_dataverse_and_kaggle() {
    let rows = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n\
        HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp,vidir_modern\n\
        HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp,vidir_modern\n\
        HAM_0002730,ISIC_0026769,mel,histo,80.0,male,scalp,vidir_modern\n";
    let pictures = [
        "HAM10000_images_part_1/ISIC_0027419.jpg",
        "HAM10000_images_part_1/ISIC_0025030.jpg",
        "HAM10000_images_part_2/ISIC_0026769.jpg",
    ];
    for (name, text) in [
        ("HAM10000_metadata", rows.to_owned()),
        ("HAM10000_metadata.csv", rows.to_owned()),
        ("HAM10000_metadata.tab", rows.replace(',', "\t")),
    ] {
        let source = open("ham10000", &folder(&[(name, &text)], &pictures));
        answers_its_tasks(&source);
        assert_eq!(source.examples[1].group.as_deref(), Some("HAM_0000118"));
        // "Benign keratosis-like" is none of the 79 conditions.
        assert_eq!(
            labels(
                &source.examples[1],
                &["label", "skin_conditions", "confirmed_by"]
            ),
            "label=bkl skin_conditions= confirmed_by=histo"
        );
        assert_eq!(
            labels(&source.examples[2], &["label", "skin_conditions", "split"]),
            "label=mel skin_conditions=Melanoma split="
        );
    }
}

#[test]
fn isic_one_hot() {
    let truth = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n\
        ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\nISIC_0000002,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\n";
    let metadata = "image,age_approx,anatom_site_general,lesion_id,sex\n\
        ISIC_0000000,55.0,anterior torso,,female\nISIC_0000002,30.0,,BCN_0000003,female\n";
    let pictures = [
        "ISIC_2019_Training_Input/ISIC_0000000.jpg",
        "ISIC_2019_Training_Input/ISIC_0000002.jpg",
    ];
    let tables = [
        ("ISIC_2019_Training_GroundTruth.csv", truth),
        ("ISIC_2019_Training_Metadata.csv", metadata),
    ];
    let source = open("isic", &folder(&tables, &pictures));
    answers_its_tasks(&source);
    let all: Vec<_> = source
        .examples
        .iter()
        .map(|e| (labels(e, &["label", "skin_conditions"]), e.group.as_deref()))
        .collect();
    assert_eq!(
        all,
        [
            (
                "label=NV skin_conditions=Melanocytic Nevus".to_owned(),
                None
            ),
            (
                "label=SCC skin_conditions=SCC/SCCIS".to_owned(),
                Some("BCN_0000003")
            )
        ]
    );

    let two = truth.replace(
        "0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        "1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    );
    let message = error(
        "isic",
        &folder(&[("ISIC_2019_Training_GroundTruth.csv", &two)], &pictures),
    );
    assert!(
        message.contains("row 1, column NV: a second class of one picture"),
        "{message}"
    );
    let none = truth.replace("1.0", "0.0");
    let message = error(
        "isic",
        &folder(&[("ISIC_2019_Training_GroundTruth.csv", &none)], &pictures),
    );
    assert!(
        message.contains("row 1, column image: a picture without a class"),
        "{message}"
    );
    let other = truth.replace("UNK", "ACNE");
    let message = error(
        "isic",
        &folder(&[("ISIC_2019_Training_GroundTruth.csv", &other)], &pictures),
    );
    assert!(
        message.contains("a column that is no class of ISIC"),
        "{message}"
    );
}

#[test]
fn scin() {
    let cases = "case_id,source,release,year,age_group,sex_at_birth,fitzpatrick_skin_type,image_1_path,image_2_path,image_3_path\n\
        -1000600354148496558,SCIN,1.0.0,2023,AGE_UNKNOWN,FEMALE,,dataset/images/-3205742176803893704.png,dataset/images/-4762289084741430925.png,\n\
        -1002039107727665188,SCIN,1.0.0,2023,AGE_40_TO_49,FEMALE,FST3,dataset/images/-4762.png,,\n";
    let labels_csv = "case_id,dermatologist_skin_condition_on_label_name,dermatologist_skin_condition_confidence,weighted_skin_condition_label\n\
        -1000600354148496558,\"['Inflicted skin lesions', 'Eczema']\",\"[3, 4]\",\"{'Inflicted skin lesions': 0.41, 'Eczema': 0.59}\"\n\
        -1002039107727665188,[],[],{}\n";
    let pictures = [
        "dataset/images/-3205742176803893704.png",
        "dataset/images/-4762289084741430925.png",
        "dataset/images/-4762.png",
    ];
    let tables = [
        ("dataset/scin_cases.csv", cases),
        ("dataset/scin_labels.csv", labels_csv),
    ];
    let source = open("scin", &folder(&tables, &pictures));
    answers_its_tasks(&source);
    assert_eq!(source.examples.len(), 3);
    let second = &source.examples[1];
    assert!(picture(second).ends_with(pictures[1]));
    assert_eq!(second.group.as_deref(), Some("-1000600354148496558"));
    assert_eq!(
        labels(second, &["skin_conditions", "conditions", "sex"]),
        "skin_conditions=Eczema conditions=Inflicted skin lesions|Eczema sex=FEMALE"
    );
    assert_eq!(
        labels(&source.examples[2], &["skin_conditions", "conditions"]),
        "skin_conditions= conditions="
    );
    assert!(source.warnings[0].contains("MedSigLIP was trained on pictures of scin"));
    let wrong = labels_csv.replace("0.41", "many");
    let tables = [("scin_cases.csv", cases), ("scin_labels.csv", &*wrong)];
    let message = error("scin", &folder(&tables, &pictures));
    assert!(
        message.contains("row 1, column weighted_skin_condition_label: expected a dictionary"),
        "{message}"
    );
    assert!(!message.contains("many"));
}
