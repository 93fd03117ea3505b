//! Who is calling.

/// What a caller must do to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The call came without credentials.
    #[error("credentials are missing: send `authorization: Bearer <token>`")]
    Missing,
    /// The credentials are not the right ones.
    #[error("the token in `authorization` is not valid")]
    Invalid,
}

/// Decides whether a caller may use the service.
pub trait Authenticator: Send + Sync {
    /// Checks the value of the `authorization` header (HTTP) or metadata (gRPC), as its raw bytes, in a time that
    /// does not depend on how much of it is right.
    ///
    /// # Errors
    /// [`AuthenticationError::Missing`] or [`AuthenticationError::Invalid`].
    fn authenticate(&self, authorization: Option<&[u8]>) -> Result<(), AuthenticationError>;
}
