package sqlite

import (
	"encoding/base64"
	"fmt"
)

// id is a message id or client_msg_id. An id that Millrace derived is 128 bits in 22 letters of base64, and is stored as a
// BLOB of those bits. Any other id is stored as TEXT, which never equals a BLOB.
type id string

func idValue(s string) any {
	if len(s) == 22 {
		if bits, err := base64.RawURLEncoding.Strict().DecodeString(s); err == nil && len(bits) == 16 {
			return bits
		}
	}
	return s
}

// Scan implements [database/sql.Scanner].
func (i *id) Scan(value any) error {
	switch v := value.(type) {
	case []byte:
		*i = id(base64.RawURLEncoding.EncodeToString(v))
	case string:
		*i = id(v)
	default:
		return fmt.Errorf("scan id: %T", value)
	}
	return nil
}
