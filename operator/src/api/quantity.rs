//! Kubernetes quantities: the API server stores `0.5` as `500m` and `1024Mi` as `1Gi`.

/// Largest number of digits kept: beyond, amounts are compared as text.
const DIGITS_MAX: usize = 18;

/// Whether `a` and `b` say the same amount (`k8s.io/apimachinery/pkg/api/resource`, `Quantity`).
/// What is not a quantity equals only itself.
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((nano_units(a), nano_units(b)), (Some(a), Some(b)) if a == b)
}

/// The amount in billionths of a unit, the finest that Kubernetes keeps.
fn nano_units(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let decimals = u32::try_from(fraction.len()).ok()?;
    let scaled = digits.parse::<i128>().ok()?.checked_mul(multiplier(suffix)?)?;
    let unit = 10_i128.pow(decimals);
    // Not a whole number of billionths: Kubernetes would round it up, we compare it as text.
    (scaled % unit == 0).then_some(scaled / unit)
}

/// Billionths of a unit in one of `suffix`.
fn multiplier(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn the_same_amount_in_other_words_is_the_same() {
        for (a, b) in [("0.5", "500m"), ("1024Mi", "1Gi"), ("1", "1000m"), ("1.5Gi", "1536Mi"), ("2k", "2000")] {
            assert!(same(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn other_amounts_differ() {
        for (a, b) in [("1G", "1Gi"), ("1", "1m"), ("", "0"), ("words", "1"), ("1e3x", "1e3")] {
            assert!(!same(a, b), "{a} and {b}");
        }
    }
}
