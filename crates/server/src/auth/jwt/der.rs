//! As much of DER as it takes to find the keys in what openssl writes.
//!
//! Owns the shapes of public keys, certificates and private keys on curves. What a key is good for is not its business.

/// A public key, as it stands in a `PUBLIC KEY` or in a certificate.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct PublicKey<'d> {
    /// What kind of key: an object identifier.
    pub(super) algorithm: &'d [u8],
    /// For keys on curves: which one.
    pub(super) curve: Option<&'d [u8]>,
    /// The key itself, in the form of its kind.
    pub(super) key: &'d [u8],
}

/// Kinds of public keys: rsaEncryption, id-ecPublicKey, id-Ed25519.
pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

impl<'d> PublicKey<'d> {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    pub(super) fn read(der: &'d [u8]) -> Option<PublicKey<'d>> {
        PublicKey::within(Reader(der).take(SEQUENCE)?)
    }

    /// Finds the key in a certificate, which is not checked otherwise: the operator has named it.
    pub(super) fn of_certificate(der: &'d [u8]) -> Option<PublicKey<'d>> {
        let mut certificate = Reader(Reader(der).take(SEQUENCE)?);
        let mut body = Reader(certificate.take(SEQUENCE)?);
        // The version, which the oldest ones have not.
        body.take(CONTEXT_0);
        body.take(INTEGER)?;
        // Signature algorithm, issuer, validity, subject.
        for _ in 0..4 {
            body.take(SEQUENCE)?;
        }
        PublicKey::within(body.take(SEQUENCE)?)
    }

    fn within(info: &'d [u8]) -> Option<PublicKey<'d>> {
        let mut info = Reader(info);
        let mut kind = Reader(info.take(SEQUENCE)?);
        let algorithm = kind.take(OBJECT)?;
        Some(PublicKey { algorithm, curve: kind.take(OBJECT), key: bits(info.take(BIT_STRING)?)? })
    }
}

/// Reads an `ECPrivateKey` (RFC 5915): the private key, and the public one.
pub(super) fn ec_private_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key = Reader(Reader(der).take(SEQUENCE)?);
    key.take(INTEGER)?;
    let private = key.take(OCTET_STRING)?;
    key.take(CONTEXT_0);
    let public = Reader(key.take(CONTEXT_1)?).take(BIT_STRING)?;
    Some((private, bits(public)?))
}

/// How many bytes the modulus of an `RSAPublicKey` has (RFC 8017 §A.1.1).
pub(super) fn modulus_bytes(key: &[u8]) -> Option<usize> {
    let modulus = Reader(Reader(key).take(SEQUENCE)?).take(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    Some(modulus.len() - zeros)
}

/// A bit string of whole bytes.
fn bits(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(&[0])
}

/// What is left of a sequence.
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// Takes the next value's content if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (&[found, length], rest) = self.0.split_first_chunk()?;
        if found != tag {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
            // No key is so long.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_changed_byte_is_read_without_harm() {
        let key = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &[7; 32][..]].concat();
        let read = PublicKey::read(&key).unwrap();
        assert_eq!(read, PublicKey { algorithm: ED25519, curve: None, key: &[7; 32] });
        for cut in 0..key.len() {
            assert_eq!(PublicKey::read(&key[..cut]), None, "{cut}");
        }
        for place in 0..key.len() {
            for byte in 0..=u8::MAX {
                let mut changed = key.clone();
                changed[place] = byte;
                let _ = (PublicKey::read(&changed), PublicKey::of_certificate(&changed), ec_private_key(&changed));
                let _ = modulus_bytes(&changed);
            }
        }
    }
}
