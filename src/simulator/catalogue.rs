//! A small fashion catalogue, and the order in which a profile sees it.
//!
//! PURE. The same profile always sees the same order, two profiles almost never do. Pictures are drawn here, so that no
//! page needs an asset from elsewhere.

use std::sync::LazyLock;

use serde::Serialize;

/// A thing to wear, as the resource endpoints describe it.
#[derive(Debug, Serialize)]
pub(super) struct Garment {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) category: Category,
    pub(super) brand: &'static str,
    /// In pounds, as text: "89.00".
    pub(super) price: &'static str,
    pub(super) currency: &'static str,
    pub(super) colours: &'static [&'static str],
    /// A `data:` URL of an SVG.
    pub(super) image: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Category {
    Bag,
    Coat,
    Dress,
    Knitwear,
    Shirt,
    Shoes,
    Skirt,
    Trousers,
}

type Row = (
    &'static str,
    &'static str,
    Category,
    &'static str,
    &'static str,
    &'static [&'static str],
    [&'static str; 2],
);

use Category::{Bag, Coat, Dress, Knitwear, Shirt, Shoes, Skirt, Trousers};

/// Id, name, category, brand, price, colours, and the picture's colours: garment and ground.
#[rustfmt::skip]
const ROWS: [Row; 24] = [
    ("1001", "Bias-cut slip dress",      Dress,    "Maren",       "129.00", &["forest"],          ["2f5d50", "e3ebe4"]),
    ("1002", "Linen wrap dress",         Dress,    "Oakley Row",  "98.00",  &["terracotta"],      ["b5573a", "f3e4da"]),
    ("1003", "Pleated midi dress",       Dress,    "Saltmarsh",   "145.00", &["navy", "ecru"],    ["27364f", "e1e5ec"]),
    ("1004", "Cotton poplin shirt",      Shirt,    "Maren",       "65.00",  &["sky"],             ["7c9cbf", "e9eff5"]),
    ("1005", "Silk pussy-bow blouse",    Shirt,    "Hartwell",    "110.00", &["blush"],           ["c98f8a", "f6eae7"]),
    ("1006", "Breton striped top",       Shirt,    "Saltmarsh",   "48.00",  &["ecru", "navy"],    ["d9cdb4", "3d4a60"]),
    ("1007", "Lambswool crew neck",      Knitwear, "Fell & Dale", "85.00",  &["heather"],         ["7d6a83", "ece7ee"]),
    ("1008", "Cable-knit cardigan",      Knitwear, "Fell & Dale", "120.00", &["oat"],             ["c7ad86", "f4eee3"]),
    ("1009", "Cashmere roll neck",       Knitwear, "Hartwell",    "165.00", &["charcoal"],        ["43464b", "e6e6e4"]),
    ("1010", "Wide-leg wool trousers",   Trousers, "Maren",       "115.00", &["camel"],           ["a9825a", "f2e9dd"]),
    ("1011", "Straight-leg jeans",       Trousers, "Oakley Row",  "79.00",  &["indigo"],          ["3f5878", "e2e8ef"]),
    ("1012", "Cropped linen trousers",   Trousers, "Saltmarsh",   "72.00",  &["sage"],            ["8a9a7b", "ebefe5"]),
    ("1013", "Satin midi skirt",         Skirt,    "Hartwell",    "89.00",  &["champagne"],       ["bfa27a", "f5efe4"]),
    ("1014", "Pleated kilt",             Skirt,    "Fell & Dale", "95.00",  &["moss"],            ["5c6b3f", "e8ebdf"]),
    ("1015", "Denim A-line skirt",       Skirt,    "Oakley Row",  "58.00",  &["mid blue"],        ["54749a", "e4ebf2"]),
    ("1016", "Belted trench coat",       Coat,     "Hartwell",    "240.00", &["stone"],           ["b3a48a", "f1ece2"]),
    ("1017", "Quilted liner jacket",     Coat,     "Fell & Dale", "130.00", &["olive"],           ["6a6b45", "eaeadf"]),
    ("1018", "Double-breasted blazer",   Coat,     "Maren",       "175.00", &["midnight"],        ["23283d", "e0e2ea"]),
    ("1019", "Boiled-wool coat",         Coat,     "Saltmarsh",   "210.00", &["rust"],            ["9c4a2f", "f2e2da"]),
    ("1020", "Leather loafers",          Shoes,    "Hartwell",    "135.00", &["oxblood"],         ["6b2b31", "efe0e0"]),
    ("1021", "Canvas plimsolls",         Shoes,    "Saltmarsh",   "45.00",  &["white", "navy"],   ["f7f4ec", "8d9bb0"]),
    ("1022", "Suede ankle boots",        Shoes,    "Oakley Row",  "149.00", &["tobacco"],         ["7e5636", "f0e5da"]),
    ("1023", "Woven leather tote",       Bag,      "Maren",       "185.00", &["tan"],             ["b0773f", "f4e8db"]),
    ("1024", "Crescent shoulder bag",    Bag,      "Hartwell",    "155.00", &["plum"],            ["5b3350", "ece2ea"]),
];

static GARMENTS: LazyLock<Vec<Garment>> =
    LazyLock::new(|| ROWS.into_iter().map(Garment::from_row).collect());

/// All garments, in the order that nobody in particular sees.
pub(super) fn all() -> &'static [Garment] {
    &GARMENTS
}

/// The garment with this id.
pub(super) fn find(id: &str) -> Option<&'static Garment> {
    all().iter().find(|garment| garment.id == id)
}

/// These garments in the order of a profile, or as they are for nobody in particular.
pub(super) fn ranked(
    mut garments: Vec<&'static Garment>,
    profile: Option<&str>,
) -> Vec<&'static Garment> {
    if let Some(profile) = profile {
        garments.sort_by_cached_key(|garment| affinity(profile, garment.id));
    }
    garments
}

/// FNV-1a with a final stir: stable and well spread; nothing here is worth an attacker's while.
fn affinity(profile: &str, garment: &str) -> u64 {
    let bytes = profile.bytes().chain([0]).chain(garment.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

// === impl Garment ===

impl Garment {
    fn from_row((id, name, category, brand, price, colours, [fill, ground]): Row) -> Self {
        let image = format!(
            "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 60 75'%3E\
             %3Crect width='60' height='75' fill='%23{ground}'/%3E\
             %3Cpath fill='%23{fill}' d='{}'/%3E%3C/svg%3E",
            category.outline()
        );
        Self {
            id,
            name,
            category,
            brand,
            price,
            currency: "GBP",
            colours,
            image,
        }
    }

    /// Whether a facet (a property and one of its values) holds for this garment. Unknown properties hold for none.
    pub(super) fn has(&self, facet: &str, value: &str) -> bool {
        match facet {
            "category" => self.category.name().eq_ignore_ascii_case(value),
            "brand" => self.brand.eq_ignore_ascii_case(value),
            "colour" => self
                .colours
                .iter()
                .any(|colour| colour.eq_ignore_ascii_case(value)),
            _ => false,
        }
    }
}

// === impl Category ===

impl Category {
    fn name(self) -> &'static str {
        match self {
            Bag => "bag",
            Coat => "coat",
            Dress => "dress",
            Knitwear => "knitwear",
            Shirt => "shirt",
            Shoes => "shoes",
            Skirt => "skirt",
            Trousers => "trousers",
        }
    }

    /// An SVG path within 60 by 75.
    fn outline(self) -> &'static str {
        match self {
            Bag => "M14 34h32l5 28H9zM21 34c0-22 18-22 18 0h-3c0-17-12-17-12 0z",
            Coat => "M23 12l7 9 7-9 9 5 6 35-7 2-4-20v32H31V24h-2v42H19V34l-4 20-7-2 6-35z",
            Dress => {
                "M23 10c0 9 14 9 14 0h3l-1 18c2 14 7 26 9 37-11 4-25 4-36 0 2-11 7-23 9-37l-1-18z"
            }
            Knitwear => "M22 15c4 4 12 4 16 0l9 5 6 34-8 2-4-18v23H19V38l-4 18-8-2 6-34z",
            Shirt => "M22 15l8 7 8-7 12 7 3 14-9 2-2-4v27H18V34l-2 4-9-2 3-14z",
            Shoes => "M8 50V32l10 3c5 8 13 11 27 13 6 1 7 4 7 8H8zM8 58h44v3H8z",
            Skirt => "M20 16h20v4c4 14 9 29 11 41-13 5-29 5-42 0 2-12 7-27 11-41z",
            Trousers => "M19 10h22l5 56H34l-4-38-4 38H14z",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    fn order(profile: Option<&str>) -> Vec<&'static str> {
        ranked(all().iter().collect(), profile)
            .iter()
            .map(|garment| garment.id)
            .collect()
    }

    #[test]
    fn a_profile_always_sees_its_own_order_and_nobody_the_default_one() {
        assert_eq!(order(Some("a")), order(Some("a")));
        assert_ne!(order(Some("a")), order(Some("b")));
        assert_eq!(order(None), ROWS.map(|row| row.0));
    }

    #[test]
    fn every_garment_can_be_found_and_has_a_picture_of_its_own() {
        for row in ROWS {
            let garment = find(row.0).unwrap();
            assert!(
                garment.image.starts_with("data:image/svg+xml,") && garment.has("brand", row.3)
            );
        }
        assert!(find("9999").is_none());
    }
}
