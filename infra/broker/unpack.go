package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	snappy "github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Kafka's numbers of the compressions: the lowest three bits of a record batch's attributes.
const (
	uncompressed = iota
	gzipped
	snappied
	lz4ed
	zstded
)

var errUnpacksTooLarge = fmt.Errorf("the batch has more than %d bytes uncompressed", maxUnpackedBytes)

// unpack returns the records of a record batch uncompressed. It never takes much more memory than maxUnpackedBytes, whatever
// size the batch says it has or would have.
func unpack(compression int, records []byte) ([]byte, error) {
	switch compression {
	case uncompressed:
		return records, nil
	case gzipped:
		r, err := gzip.NewReader(bytes.NewReader(records))
		if err != nil {
			return nil, err
		}
		return readAll(r)
	case lz4ed:
		return readAll(lz4.NewReader(bytes.NewReader(records)))
	case snappied:
		return unpackSnappy(records)
	case zstded:
		r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnpackedBytes), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		out, err := r.DecodeAll(records, nil)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, errUnpacksTooLarge
		}
		return out, err
	}
	return nil, fmt.Errorf("unknown compression %d", compression)
}

func readAll(r io.Reader) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, maxUnpackedBytes+1))
	if err == nil && len(out) > maxUnpackedBytes {
		return nil, errUnpacksTooLarge
	}
	return out, err
}

// unpackSnappy tries with more and more room, because only the decoder finds out how much it needs.
func unpackSnappy(records []byte) ([]byte, error) {
	for room := 4 * len(records); ; room *= 2 {
		room = min(room, maxUnpackedBytes)
		out, err := snappy.DecodeCapped(make([]byte, 0, room), records)
		if !errors.Is(err, snappy.ErrDstTooSmall) {
			return out, err
		}
		if room == maxUnpackedBytes {
			return nil, errUnpacksTooLarge
		}
	}
}
