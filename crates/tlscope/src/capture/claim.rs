//! What the user says that an image is; the analysis knows better, and says so.

use std::str::FromStr;

use tlscope_image::plan::{Family, Plan};

use super::images::title;

#[derive(Debug, Clone, Default)]
pub(crate) struct Claim {
    pub(crate) android: bool,
    pub(crate) version: Option<SslVersion>,
}

/// A family, a version, or both: `openssl 3.0.x`, `3.0.2`, and as eCapture's users spell them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SslVersion {
    typed: String,
    family: Option<Family>,
    /// As far as it is told: `3.0` of `3.0.x`.
    number: Option<String>,
}

impl Claim {
    /// Why the claim is not followed for this image, or could not be checked; `None` if it fits.
    pub(crate) fn objection(&self, plan: &Plan) -> Option<String> {
        let known = title(plan);
        if self.android && plan.family != Family::BoringSsl {
            return Some(format!("--android does not fit: the image holds {known}"));
        }
        let claimed = self.version.as_ref()?;
        let typed = &claimed.typed;
        let misfit = || format!("--ssl-version {typed:?} does not fit: the image holds {known}");
        if claimed.family.is_some_and(|family| family != plan.family) {
            return Some(misfit());
        }
        let number = claimed.number.as_ref()?;
        match &plan.version {
            Some(version) if fits(number, version) => None,
            Some(_) => Some(misfit()),
            None if claimed.is_of_every_boringssl() => None,
            None => Some(format!(
                "--ssl-version {typed:?} could not be checked: the image holds {known} of unknown version"
            )),
        }
    }
}

impl SslVersion {
    /// `OPENSSL_VERSION_TEXT` of every BoringSSL is "OpenSSL 1.1.1 (compatible; BoringSSL)".
    fn is_of_every_boringssl(&self) -> bool {
        self.family == Some(Family::BoringSsl) && self.number.as_deref() == Some("1.1.1")
    }
}

impl FromStr for SslVersion {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        const FAMILIES: [(&str, Family); 3] = [
            ("openssl", Family::OpenSsl),
            ("libressl", Family::LibreSsl),
            ("boringssl", Family::BoringSsl),
        ];
        let lower = typed.to_lowercase();
        let named = FAMILIES
            .iter()
            .find_map(|(name, family)| Some((Some(*family), lower.strip_prefix(name)?)));
        let (family, rest) = named.unwrap_or((None, &lower));
        let words: Vec<&str> = rest
            .split([' ', '_', '-'])
            .filter(|w| !w.is_empty())
            .collect();
        let number = match (family, words.as_slice()) {
            // eCapture's names: `boringssl_a_13` is Android's, which no image tells; `na` is not Android's.
            (Some(Family::BoringSsl), ["na"]) | (Some(_), []) => None,
            (Some(Family::BoringSsl), ["a", android]) if is_number(android) => None,
            (_, words) => Some(number(words).ok_or(
                "neither openssl, libressl or boringssl, nor a version, nor one after the other, \
                 as in \"openssl 3.0.x\"",
            )?),
        };
        Ok(Self {
            typed: typed.to_owned(),
            family,
            number,
        })
    }
}

/// `3_0_x` is `3.0.x` is 3.0; letters may follow the last digits: `1.1.1w`, `1.1.1x` for any.
fn number(words: &[&str]) -> Option<String> {
    const LETTERS_MAX: usize = 2;
    let joined = words.join(".");
    let told = joined.trim_end_matches(".x");
    let digits = told.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let letters = told.len() - digits.len();
    let may_have_letters = digits.contains('.') && letters <= LETTERS_MAX;
    let is_version = digits.split('.').all(is_number) && (letters == 0 || may_have_letters);
    is_version.then(|| told.trim_end_matches('x').to_owned())
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// `3.0` is all of 3.0, but not 3.01; `1.1.1` has `1.1.1w`, but `1.1.1z` not `1.1.1za`.
fn fits(number: &str, version: &str) -> bool {
    let version = version.to_lowercase();
    let goes_on = if number.ends_with(|c: char| c.is_ascii_digit()) {
        |c: char| c.is_ascii_digit()
    } else {
        |c: char| c.is_ascii_alphabetic()
    };
    let rest = version.strip_prefix(number);
    rest.is_some_and(|rest| !rest.starts_with(goes_on))
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
        let version = Some(claim.parse().expect(claim));
        let android = false;
        Claim { android, version }.objection(plan)
    }

    const ANDROID: Claim = Claim {
        android: true,
        version: None,
    };

    #[test]
    fn a_claim_that_fits_is_silent() {
        let openssl = plan(Family::OpenSsl, Some("3.0.17"));
        for claim in [
            "openssl 3.0.x",
            "OpenSSL 3.0.17",
            "3.0",
            "openssl",
            "3",
            "3.x",
            "openssl_3_0",
            "openssl_3_0_x",
            "openssl_3_0_17",
            "openssl-3.0.17",
        ] {
            assert_eq!(says(claim, &openssl), None, "{claim}");
        }
        let patched = plan(Family::OpenSsl, Some("1.1.1w"));
        for claim in [
            "openssl 1.1.1",
            "openssl 1.1.1w",
            "openssl_1_1_1w",
            "1.1.1x",
            "1.1.x",
        ] {
            assert_eq!(says(claim, &patched), None, "{claim}");
        }
        let boringssl = plan(Family::BoringSsl, None);
        for claim in [
            "boringssl",
            "boringssl 1.1.1",
            "boringssl_a_13",
            "boringssl_na",
        ] {
            assert_eq!(says(claim, &boringssl), None, "{claim}");
        }
        assert_eq!(ANDROID.objection(&boringssl), None);
        assert_eq!(Claim::default().objection(&openssl), None);
    }

    #[test]
    fn a_claim_that_does_not_fit_is_contradicted() {
        let openssl = plan(Family::OpenSsl, Some("3.0.17"));
        for claim in [
            "openssl 1.1.1",
            "openssl 1.1.1d",
            "openssl 3.0.1",
            "openssl_3_5",
            "openssl_3_0_0",
            "3.5",
            "3_5",
            "boringssl",
            "boringssl_a_13",
            "libressl 3.0",
        ] {
            let said = says(claim, &openssl).unwrap_or_else(|| panic!("{claim}"));
            let wanted = format!("{claim:?} does not fit: the image holds OpenSSL 3.0.17");
            assert!(said.contains(&wanted), "{said}");
        }
        assert!(says("1.1.1z", &plan(Family::OpenSsl, Some("1.1.1za"))).is_some());
        let said = ANDROID.objection(&openssl).expect("no BoringSSL");
        assert!(
            said.contains("--android does not fit") && said.contains("OpenSSL 3.0.17"),
            "{said}"
        );
    }

    #[test]
    fn a_version_that_the_image_does_not_tell_is_not_checked_in_silence() {
        for (claim, family) in [
            ("openssl_3_5", Family::OpenSsl),
            ("3.0", Family::OpenSsl),
            ("1.1.1", Family::BoringSsl),
            ("boringssl 3.5", Family::BoringSsl),
        ] {
            let said = says(claim, &plan(family, None)).unwrap_or_else(|| panic!("{claim}"));
            let wanted = format!("{claim:?} could not be checked: the image holds {family}");
            assert!(said.contains(&wanted), "{said}");
        }
        let openssl = plan(Family::OpenSsl, None);
        assert_eq!(says("openssl", &openssl), None);
        let said = says("libressl 3.0", &openssl).expect("another family");
        assert!(said.contains("does not fit"), "{said}");
    }

    #[test]
    fn what_is_no_claim_is_refused() {
        for typed in [
            "",
            " ",
            "foobar",
            "wolfssl",
            "openssll",
            "openssl foo",
            "openssl 3.0 fips",
            "x",
            "3w",
            "3..0",
            "3.0.",
            "3.w",
            "openssl 1.1.1abc",
            "openssl_a_13",
            "boringssl_a_x",
            "linux",
        ] {
            let parsed: Result<SslVersion, String> = typed.parse();
            assert!(parsed.is_err(), "{typed:?}: {parsed:?}");
        }
    }
}
