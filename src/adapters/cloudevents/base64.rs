//! Base64 in JSON.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::adapters::api_error::ApiError;

/// Source: Go 1, `base64.StdEncoding`: padding must be there, stray bits in the last digit do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Reads the value of the member `name`. Line breaks inside are skipped, as Go's decoder does.
///
/// # Errors
/// `InvalidArgument` naming the member.
pub fn decode_base64(name: &str, text: &str) -> Result<Bytes, ApiError> {
    let data = BASE64.decode(text).or_else(|_| BASE64.decode(text.replace(['\r', '\n'], "")));
    data.map(Bytes::from).map_err(|_| ApiError::invalid(name, "must be standard base64 with padding"))
}

/// Appends `data` to `out` as Base64.
pub fn write_base64(out: &mut Vec<u8>, data: &[u8]) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(data, &mut out[start..]).expect("the room is as long as the encoding");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, data) in [("", ""), ("QQ==", "A"), ("QR==", "A"), ("QU\r\nJD\n", "ABC"), ("Q\nQ=\n=", "A")] {
            assert_eq!(decode_base64("data", text).unwrap(), data.as_bytes(), "{text:?}");
        }
        for text in ["QQ", "QQ=", "Q", "=", "QQ==QQ==", "Q Q==", "Q-__", " ", "QQ===", "QUJDRA"] {
            assert!(decode_base64("data", text).is_err(), "{text:?}");
        }
    }
}
