package events

import "maps"

// TypeHeader is the header of a record that holds the type of its event. Records of foreign producers may lack it. A consumer
// may skip a record by it without decoding the value.
const TypeHeader = "type"

// Headers are the headers of a record. A reader that needs only some of them does not pay for the others. Nobody may change
// them.
type Headers interface {
	// Get returns the value of a header, or an empty string if there is none.
	Get(name string) string
	// All returns all headers, and the key if it has a place among them, in a map that is the caller's own.
	All() map[string]string
}

// HeaderMap are headers in a map.
type HeaderMap map[string]string

// Get implements [Headers].
func (h HeaderMap) Get(name string) string { return h[name] }

// All implements [Headers].
func (h HeaderMap) All() map[string]string {
	all := make(map[string]string, len(h))
	maps.Copy(all, h)
	return all
}

// Header returns the value of a header of the record, or an empty string if there is none.
func (r *Record) Header(name string) string {
	if r.Headers == nil {
		return ""
	}
	return r.Headers.Get(name)
}
