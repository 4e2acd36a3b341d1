//! `jsonwebtoken` leaves the arithmetic of signatures to others: here it is ring's, as everywhere in Headwater.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{self, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

/// Only what services need: they verify, and issue nothing.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory,
    key_utils: KeyUtils::new_unimplemented(),
};

/// For the whole process; that it is there already is no error.
pub fn install() {
    let _ = PROVIDER.install_default();
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    match algorithm {
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA if key.family() == algorithm.family() => {
            Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.algorithm, self.key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

    use super::*;

    /// A key that was made for this test, and its signature of `headwater`, both by OpenSSL.
    const MODULUS: &str = "\
        sLFLe_BpTrxNsXmhop7Yt1y1tNuDU0mItt08NuWcRPC6JEs6-rGYA25AeFZ-LVKjK-LGKbOLwPQwOIOIRqPeKLyhAD_FzkHf\
        CJ-VN1xMK4-Zdwm-Pch9QkDRpBHtCU9lRM--1zEmPISTmlBhfUFFiE00m-ygTGztgSMTch5U7AlV6uMA8PsgaDxdSt6Z2r8_\
        OKTM2gztgkhvHQ6vo3S6wFehFeXf5d8GySXmJVmEHp_i57rZZw_5OtA8VY1PWXsxvCzWg6DYyxFzdNyTOsJvPdMt2rhrLSGC\
        9_RETlmQRAn04Ce4D6o-4idkbLBX6blqAwFzDfUI-CDX2cY7hZx6CQ";
    const SIGNATURE: &str = "\
        FqRxXqUcO6y6fzIxGvJrKYElSTxMEFING0vIY8iOuQl-RL9iaNh2aY5A_8Efne4BDEh45MWGN94voWDyxBfG9W0qQCAfprX5\
        Dd3ZSgB5Lb7Tf84oPSEZFVrQ_6xCchnRojlNVrshUwmR-xCegi_Zv8sbXrYJslc0F6pZkqs6ioBNvQFhDaZ4ykXmnaPCaCLH\
        RbrjsB-RkihazuBE2rFP09xWaX0V5KMnRkTF2_cYozXN6CbHi34G2_UqTybn0teWIEGZVF5rTHvOWRHA3Pn197yOvoZf9obU\
        2-u8FQC1YWHRg9l_hQxSjxHLp3aqfVVcWxeVYMNHtWwMV-z6YA_hfw";

    #[test]
    fn a_signature_of_an_rsa_key_is_for_one_message() {
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        let verifier = verifier_factory(&Algorithm::RS256, &key).unwrap();
        let signature = BASE64.decode(SIGNATURE).unwrap();
        assert!(verifier.verify(b"headwater", &signature).is_ok());
        assert!(verifier.verify(b"Headwater", &signature).is_err());
        let other = DecodingKey::from_rsa_components(MODULUS, "Aw").unwrap();
        let other = verifier_factory(&Algorithm::RS256, &other).unwrap();
        assert!(other.verify(b"headwater", &signature).is_err());
    }

    #[test]
    fn a_key_is_for_its_own_way_of_signing() {
        let rsa = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        let secret = DecodingKey::from_secret(MODULUS.as_bytes()).unwrap();
        for (algorithm, key) in [
            (Algorithm::HS256, &rsa),
            (Algorithm::HS256, &secret),
            (Algorithm::RS512, &rsa),
            (Algorithm::PS256, &rsa),
            (Algorithm::ES256, &rsa),
            (Algorithm::RS256, &secret),
        ] {
            assert!(verifier_factory(&algorithm, key).is_err(), "{algorithm:?}");
        }
    }
}
