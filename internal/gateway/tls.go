package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// isTLS reports whether a round trip failed because the server is not who it
// should be.
func isTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &unknown)
}
