package client

import (
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// ErrNotUTF8 is returned for a request with text that is not valid UTF-8, because JSON would replace the invalid bytes by
// other characters.
var ErrNotUTF8 = errors.New("text that is not valid UTF-8")

// checkText returns [ErrNotUTF8] if any text in the request is not valid UTF-8.
func checkText(r Request) error {
	if !validText(reflect.ValueOf(r)) {
		return fmt.Errorf("encode %s: %w", r.verb(), ErrNotUTF8)
	}
	return nil
}

func validText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || validText(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if !validText(v.Field(i)) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !validText(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			if !validText(entries.Key()) || !validText(entries.Value()) {
				return false
			}
		}
	default:
	}
	return true
}
