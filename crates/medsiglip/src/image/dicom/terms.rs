//! Words that may stand in columns of an output: what a field of codes holds beside them could be about a person.

/// Of Body Part Examined (0018,0015): the defined terms of PS3.16 annex L, and the words that scanners put together.
#[rustfmt::skip]
pub(super) const BODY_PARTS: [&str; 183] = [
    "ABDOMEN", "ABDOMENPELVIS", "ABD", "PELV", "PEL", "ADRENAL", "ANKLE", "ANUS", "AORTA", "AORTICARCH", "APPENDIX",
    "ARM", "ARTERY", "AXILLA", "BACK", "BILEDUCT", "BLADDER", "BODY", "BONE", "BRAIN", "BREAST", "BRONCHUS",
    "BUTTOCK", "CALCANEUS", "CALF", "CAROTID", "CEREBELLUM", "CERVIX", "CHEEK", "CHEST", "CHESTABDOMEN",
    "CHESTABDPELVIS", "CHOROIDPLEXUS", "CIRCLEOFWILLIS", "CLAVICLE", "COCCYX", "COLON", "CORNEA", "CORONARY",
    "CORONARYARTERY", "CSPINE", "CTSPINE", "C", "T", "L", "S", "SPINE", "DUODENUM", "EAR", "ELBOW", "ENDOCRINE",
    "ESOPHAGUS", "EXTREMITY", "EYE", "EYEBROW", "EYELID", "FACE", "FACIAL", "FEET", "FEMUR", "FETUS", "FIBULA",
    "FINGER", "FOOT", "FOREARM", "FOREHEAD", "FULL", "GALLBLADDER", "GENITAL", "HAND", "HANDS", "HEAD", "HEADNECK",
    "HEART", "HIP", "HIPS", "HUMERUS", "IAC", "ILEUM", "ILIAC", "ILIUM", "INTERNAL", "JAW", "JEJUNUM", "JOINT",
    "KIDNEY", "KIDNEYS", "KNEE", "KNEES", "LARYNX", "LEG", "LEGS", "LIMB", "LIVER", "LOWER", "LOWEXM", "LSPINE",
    "LSSPINE", "LUMBAR", "LUNG", "LUNGS", "LYMPHNODE", "MANDIBLE", "MASTOID", "MAXILLA", "MEDIASTINUM",
    "METACARPUS", "METATARSUS", "MOUTH", "MUSCLE", "NASAL", "NECK", "NECKCHEST", "NECKCHESTABDOMEN",
    "NECKCHESTABDPELV", "NOSE", "OPTICCANAL", "ORBIT", "ORBITS", "OVARY", "PANCREAS", "PARATHYROID", "PAROTID",
    "PATELLA", "PELVIS", "PENIS", "PHARYNX", "PITUITARY", "PLACENTA", "PORT", "PROSTATE", "RADIUS", "RECTUM",
    "RETINA", "RIB", "RIBS", "SACRUM", "SCALP", "SCAPULA", "SCLERA", "SCROTUM", "SELLA", "SHOULDER", "SINUS",
    "SINUSES", "SKIN", "SKULL", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "SUBMANDIBULAR", "TESTIS", "THIGH",
    "THORACIC", "THORAX", "THUMB", "THYMUS", "THYROID", "TIBIA", "TLSPINE", "TMJOINT", "TMJ", "TOE", "TOES",
    "TONGUE", "TRACHEA", "TRUNK", "TSPINE", "ULNA", "UPPER", "UPREXM", "UPRTARM", "URETER", "URETHRA", "UTERUS",
    "VAGINA", "VEIN", "VULVA", "WHOLE", "WHOLEBODY", "WRIST", "ZYGOMA",
];

/// Of View Position (0018,5101): PS3.3 C.8.1, C.8.11.7 and CID 4014, and the words that scanners put together.
#[rustfmt::skip]
pub(super) const VIEWS: [&str; 67] = [
    "AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "RPO", "LPO", "RAO", "LAO", "LAT", "LATERAL", "LEFT",
    "RIGHT", "OBL", "OBLIQUE", "FRONTAL", "SUPINE", "PRONE", "ERECT", "UPRIGHT", "DECUB", "DECUBITUS", "AXIAL",
    "SUNRISE", "MORTISE", "TUNNEL", "SWIMMERS", "LORDOTIC", "OPEN", "MOUTH", "ODONTOID", "FLEX", "EXT", "FLEXION",
    "EXTENSION", "OUTLET", "INLET", "SCAPHOID", "CC", "MLO", "ML", "LM", "LMO", "MLOID", "XCC", "XCCL", "XCCM",
    "FB", "SIO", "ISO", "CV", "AT", "TAN", "RM", "RI", "RS", "CCID", "SPECIMEN", "TOWNE", "WATERS", "CALDWELL",
    "SMV", "PORT", "PORTABLE",
];

/// Of Laterality (0020,0060) and Image Laterality (0020,0062): right, left, unpaired, both.
pub(super) const SIDES: [&str; 4] = ["R", "L", "U", "B"];
