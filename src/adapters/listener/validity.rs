//! Until when a certificate is valid: the one field of X.509 that we read ourselves.

use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Tags of DER. Source: X.690, 8.1.2; RFC 5280, 4.1.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

const DATE_AND_TIME: StaticFormatDescription = format_description!("[year][month][day][hour][minute][second]Z");

/// The end of the validity of the certificate in `der`; `None` if it is none.
///
/// Source: RFC 5280, 4.1: `Certificate ::= SEQUENCE { SEQUENCE { [0] version OPTIONAL, INTEGER, SEQUENCE signature,
/// SEQUENCE issuer, SEQUENCE { notBefore, notAfter }, … } … }`.
pub(super) fn not_after(der: &[u8]) -> Option<OffsetDateTime> {
    let mut certificate = Reader(der).enter(SEQUENCE)?;
    let mut signed = certificate.enter(SEQUENCE)?;
    if signed.0.first() == Some(&VERSION) {
        signed.enter(VERSION)?;
    }
    signed.enter(INTEGER)?;
    signed.enter(SEQUENCE)?;
    signed.enter(SEQUENCE)?;
    let mut validity = signed.enter(SEQUENCE)?;
    validity.time()?;
    validity.time()
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, which must have this tag.
    fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        let (have, content) = self.element()?;
        (have == tag).then_some(Reader(content))
    }

    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        // From 0x80 on it says how many bytes the length has. Source: X.690, 8.1.3.
        let (length, rest) = match short.checked_sub(0x80) {
            None => (usize::from(short), rest),
            Some(count @ 1..=4) => {
                let (bytes, rest) = rest.split_at_checked(usize::from(count))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            Some(_) => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Years of two digits are from 1950 to 2049. Source: RFC 5280, 4.1.2.5.
    fn time(&mut self) -> Option<OffsetDateTime> {
        let (tag, content) = self.element()?;
        let text = str::from_utf8(content).ok()?;
        let text = match tag {
            UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        PrimitiveDateTime::parse(&text, DATE_AND_TIME).ok().map(PrimitiveDateTime::assume_utc)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn certificate(not_after: OffsetDateTime) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = not_after;
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_time() {
        for end in
            [datetime!(2031-02-03 04:05:06 UTC), datetime!(2049-12-31 23:59:59 UTC), datetime!(2050-01-01 0:00 UTC)]
        {
            assert_eq!(not_after(&certificate(end)), Some(end));
        }
    }

    #[test]
    fn a_certificate_that_is_cut_has_no_end() {
        let whole = certificate(datetime!(2031-02-03 04:05:06 UTC));
        assert!((0..whole.len()).all(|length| not_after(&whole[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _none = not_after(&bytes);
        }
    }
}
