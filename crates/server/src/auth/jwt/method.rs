//! How JSON web tokens are signed: what the names of RFC 7518 and RFC 8037 stand for.

use ring::{hmac, signature};

use crate::config::SignMethod;

/// What a method needs to sign and to verify.
pub(super) enum Family {
    /// One secret for both.
    Hmac(hmac::Algorithm),
    Rsa {
        sign: &'static dyn signature::RsaEncoding,
        verify: &'static dyn signature::VerificationAlgorithm,
    },
    Ecdsa {
        sign: &'static signature::EcdsaSigningAlgorithm,
        verify: &'static dyn signature::VerificationAlgorithm,
        /// The curve's name in keys.
        curve: &'static [u8],
    },
    EdDsa,
}

/// P-256 and P-384, as object identifiers in DER.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

impl SignMethod {
    pub(super) fn family(self) -> Family {
        match self {
            Self::Hs256 => Family::Hmac(hmac::HMAC_SHA256),
            Self::Hs384 => Family::Hmac(hmac::HMAC_SHA384),
            Self::Hs512 => Family::Hmac(hmac::HMAC_SHA512),
            Self::Rs256 => {
                Family::Rsa { sign: &signature::RSA_PKCS1_SHA256, verify: &signature::RSA_PKCS1_2048_8192_SHA256 }
            }
            Self::Rs384 => {
                Family::Rsa { sign: &signature::RSA_PKCS1_SHA384, verify: &signature::RSA_PKCS1_2048_8192_SHA384 }
            }
            Self::Rs512 => {
                Family::Rsa { sign: &signature::RSA_PKCS1_SHA512, verify: &signature::RSA_PKCS1_2048_8192_SHA512 }
            }
            Self::Ps256 => {
                Family::Rsa { sign: &signature::RSA_PSS_SHA256, verify: &signature::RSA_PSS_2048_8192_SHA256 }
            }
            Self::Ps384 => {
                Family::Rsa { sign: &signature::RSA_PSS_SHA384, verify: &signature::RSA_PSS_2048_8192_SHA384 }
            }
            Self::Ps512 => {
                Family::Rsa { sign: &signature::RSA_PSS_SHA512, verify: &signature::RSA_PSS_2048_8192_SHA512 }
            }
            Self::Es256 => Family::Ecdsa {
                sign: &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                verify: &signature::ECDSA_P256_SHA256_FIXED,
                curve: P256,
            },
            Self::Es384 => Family::Ecdsa {
                sign: &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                verify: &signature::ECDSA_P384_SHA384_FIXED,
                curve: P384,
            },
            Self::EdDsa => Family::EdDsa,
        }
    }
}
