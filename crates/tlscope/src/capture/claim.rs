//! What the user says that an image is; the analysis knows better, and says so.

use tlscope_image::plan::{Family, Plan};

use super::images::title;

#[derive(Debug, Clone, Default)]
pub(crate) struct Claim {
    pub(crate) android: bool,
    pub(crate) version: Option<String>,
}

impl Claim {
    /// Why the claim is not followed for this image; `None` if it fits.
    pub(crate) fn contradiction(&self, plan: &Plan) -> Option<String> {
        let known = title(plan);
        if self.android && plan.family != Family::BoringSsl {
            return Some(format!("--android does not fit: the image holds {known}"));
        }
        let claimed = self.version.as_ref()?.to_lowercase();
        let fits = family_fits(&claimed, plan.family)
            && plan
                .version
                .as_ref()
                .is_none_or(|version| version_fits(&claimed, version));
        (!fits).then(|| format!("--ssl-version {claimed:?} does not fit: the image holds {known}"))
    }
}

/// A claim need not name a family: `3.0.2`.
fn family_fits(claimed: &str, family: Family) -> bool {
    const FAMILIES: [(&str, Family); 3] = [
        ("openssl", Family::OpenSsl),
        ("libressl", Family::LibreSsl),
        ("boringssl", Family::BoringSsl),
    ];
    let named = FAMILIES.iter().find(|(name, _)| claimed.starts_with(name));
    named.is_none_or(|(_, named)| *named == family)
}

/// As far as the claim tells: `3.0.x` and `3.0` are all of 3.0, but not 3.01.
fn version_fits(claimed: &str, version: &str) -> bool {
    let number = claimed
        .split([' ', '_'])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let Some(number) = number else {
        return true;
    };
    let wanted = number.trim_end_matches('x').trim_end_matches('.');
    let rest = version.to_lowercase();
    let rest = rest.strip_prefix(wanted);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use tlscope_image::plan::{Arch, Layout};

    use super::*;

    fn plan(family: Family, version: Option<&str>) -> Plan {
        Plan {
            family,
            arch: Arch::X86_64,
            version: version.map(Into::into),
            version_of: None,
            build_id: None,
            recognised_by: String::new(),
            probes: Vec::new(),
            covered: Vec::new(),
            layout: Layout::default(),
            missing: Vec::new(),
        }
    }

    fn says(claim: &str, plan: &Plan) -> Option<String> {
        let version = Some(claim.to_owned());
        let android = false;
        Claim { android, version }.contradiction(plan)
    }

    #[test]
    fn a_claim_that_fits_is_silent() {
        let openssl = plan(Family::OpenSsl, Some("3.0.17"));
        for claim in [
            "openssl 3.0.x",
            "OpenSSL 3.0.17",
            "3.0",
            "openssl",
            "3",
            "openssl_3_0",
        ] {
            assert_eq!(says(claim, &openssl), None, "{claim}");
        }
        let patched = plan(Family::OpenSsl, Some("1.1.1w"));
        for claim in ["openssl 1.1.1", "openssl 1.1.1w", "1.1.1x", "1.1.x"] {
            assert_eq!(says(claim, &patched), None, "{claim}");
        }
        // What has no version contradicts none.
        let boringssl = plan(Family::BoringSsl, None);
        assert_eq!(says("boringssl 1.1.1", &boringssl), None);
        let android = Claim {
            android: true,
            version: None,
        };
        assert_eq!(android.contradiction(&boringssl), None);
        assert_eq!(Claim::default().contradiction(&openssl), None);
    }

    #[test]
    fn a_claim_that_does_not_fit_is_contradicted() {
        let openssl = plan(Family::OpenSsl, Some("3.0.17"));
        for claim in [
            "openssl 1.1.1",
            "openssl 3.0.1",
            "3.5",
            "boringssl",
            "libressl 3.0",
        ] {
            let said = says(claim, &openssl).unwrap_or_else(|| panic!("{claim}"));
            assert!(
                said.contains(claim) && said.contains("OpenSSL 3.0.17"),
                "{said}"
            );
        }
        let android = Claim {
            android: true,
            version: None,
        };
        let said = android.contradiction(&openssl).expect("no BoringSSL");
        assert!(
            said.contains("--android") && said.contains("OpenSSL 3.0.17"),
            "{said}"
        );
    }
}
