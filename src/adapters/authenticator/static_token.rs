//! One token for everybody, from the configuration.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ports::authenticator::{AuthenticationError, Authenticator};

/// Lets in who shows the token, as `Bearer <token>` or bare: the published gRPC client sends it bare.
pub struct StaticToken {
    /// Digests have one length, so comparing them tells nothing about the token's.
    digest: [u8; 32],
}

impl StaticToken {
    /// Asks every caller for `token`.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self { digest: Sha256::digest(token).into() }
    }

    fn is_token(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        digest.ct_eq(&self.digest).into()
    }
}

impl Authenticator for StaticToken {
    fn authenticate(&self, authorization: Option<&[u8]>) -> Result<(), AuthenticationError> {
        let value = authorization.ok_or(AuthenticationError::Missing)?.trim_ascii();
        if value.is_empty() {
            return Err(AuthenticationError::Missing);
        }
        if self.is_token(strip_scheme(value)) || self.is_token(value) {
            Ok(())
        } else {
            Err(AuthenticationError::Invalid)
        }
    }
}

/// Source: RFC 9110, section 11.1: the scheme is case-insensitive.
fn strip_scheme(value: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"Bearer ";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token.trim_ascii_start(),
        Some(_) | None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_opens_with_and_without_its_scheme() {
        let authenticator = StaticToken::new("s3cret");
        for value in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret", "s3cret", " s3cret "] {
            assert_eq!(authenticator.authenticate(Some(value.as_bytes())), Ok(()), "{value:?}");
        }
    }

    #[test]
    fn anything_else_stays_outside() {
        let authenticator = StaticToken::new("s3cret");
        assert_eq!(authenticator.authenticate(None), Err(AuthenticationError::Missing));
        assert_eq!(authenticator.authenticate(Some(b" ")), Err(AuthenticationError::Missing));
        for value in ["Bearer", "Bearer ", "s3cre", "s3cret2", "S3CRET", "Basic s3cret", "Bearer Bearer s3cret"] {
            assert_eq!(
                authenticator.authenticate(Some(value.as_bytes())),
                Err(AuthenticationError::Invalid),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_token_may_start_with_the_scheme() {
        let authenticator = StaticToken::new("Bearer of news");
        assert_eq!(authenticator.authenticate(Some(b"Bearer of news")), Ok(()));
        assert_eq!(authenticator.authenticate(Some(b"Bearer Bearer of news")), Ok(()));
    }
}
