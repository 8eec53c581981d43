package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Verified says what a log contains whose lines are as they were written.
type Verified struct {
	Files   int
	Lines   int64  // all of them
	Older   int64  // those of them from before there were hashes
	First   int64  // number of the first line; above 1 if the files with the lines before are not there
	Last    int64  // number of the last line
	Hash    string // of the last line
	Partial bool   // the last line is not complete: it is being written, or the process has ended meanwhile
	Found   bool   // a line has the hash that was looked for
}

// BrokenError says where a log is not as it was written.
type BrokenError struct {
	File   string
	Line   int64 // counted from 1 in the file
	Reason string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("%s: line %d: %s", e.File, e.Line, e.Reason) }

// Verify reads the log at the path, with the files that were rotated away from it, or, if there are several paths, the files
// at these in their order. It returns a *[BrokenError] for the first line that does not fit those before it. It also looks
// for a line with the hash. It cannot notice that the end of the log was cut off, nor that all lines from one on were written
// anew with new hashes: both show only to who knows the hash of a line that is gone.
func Verify(hash string, paths ...string) (Verified, error) {
	v := &verifier{hash: hash}
	defer v.close()
	var err error
	if len(paths) == 1 {
		err = v.openLog(paths[0])
	} else {
		err = v.open(paths...)
	}
	if err != nil {
		return Verified{}, err
	}
	v.Files = len(v.files)
	err = v.run()
	return v.Verified, err
}

type verifier struct {
	Verified

	hash  string
	files []*os.File // still to be read, the first of them in part
	lines *bufio.Reader
	name  string // of the file that is being read
	line  int64  // in it
	end   chain
}

// openLog opens the file at the path before it looks for the rotated ones, so that none is missed if it is rotated meanwhile.
func (v *verifier) openLog(path string) error {
	latest, err := os.Open(path)
	if err != nil {
		return err
	}
	names, err := rotated(path)
	if err == nil {
		err = v.open(names...)
	}
	if n := len(v.files); err != nil || n > 0 && same(v.files[n-1], latest) {
		return errors.Join(err, latest.Close())
	}
	v.files = append(v.files, latest)
	return nil
}

func same(a, b *os.File) bool {
	one, err := a.Stat()
	other, otherErr := b.Stat()
	return err == nil && otherErr == nil && os.SameFile(one, other)
}

func (v *verifier) open(paths ...string) error {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		v.files = append(v.files, file)
	}
	return nil
}

func (v *verifier) close() {
	for _, file := range v.files {
		_ = file.Close() // it was only read
	}
}

// next returns the next complete line of the files, or io.EOF after the last.
func (v *verifier) next() ([]byte, error) {
	for len(v.files) > 0 {
		if v.lines == nil {
			v.lines, v.name, v.line = bufio.NewReader(v.files[0]), v.files[0].Name(), 0
		}
		data, err := v.lines.ReadBytes('\n')
		v.line++
		switch {
		case err == nil:
			return data, nil
		case !errors.Is(err, io.EOF):
			return nil, err
		case len(data) > 0 && len(v.files) > 1:
			return nil, v.broken("it is cut off")
		}
		v.Partial = len(data) > 0
		_ = v.files[0].Close() // it was only read
		v.files, v.lines = v.files[1:], nil
	}
	return nil, io.EOF
}

func (v *verifier) broken(format string, args ...any) *BrokenError {
	return &BrokenError{v.name, v.line, fmt.Sprintf(format, args...)}
}

func (v *verifier) run() error {
	for {
		data, err := v.next()
		if errors.Is(err, io.EOF) {
			v.Last, v.Hash = v.end.number, v.end.hash
			return nil
		}
		if err != nil {
			return err
		}
		l, err := parseLine(data)
		if err != nil {
			return v.broken("it is no line of the log: %v", err)
		}
		if err := v.check(&l); err != nil {
			return err
		}
	}
}

// check checks that the line follows those before it.
func (v *verifier) check(l *line) error {
	if v.Lines == 0 && l.Continues != "" {
		v.end = chain{l.Number - 1, l.Continues}
	}
	v.Lines++
	expected := v.end.number + 1
	switch {
	case l.Hash == "" && v.end.number > 0:
		return v.broken("it has no hash: it was changed, or put in after number %d", v.end.number)
	case l.Hash == "":
		v.Older++
	case l.Number > expected:
		return v.gap(expected, l.Number)
	case l.Number < expected:
		return v.broken("it has number %d and comes after number %d: it is out of order, or there twice", l.Number, v.end.number)
	case v.end.hashOf(l.body) != l.Hash:
		return v.broken("its hash is wrong: it was changed, or what comes before it")
	case v.First == 0:
		v.First = l.Number
	}
	v.end = v.end.follow(l)
	v.Found = v.Found || l.Hash != "" && l.Hash == v.hash
	return nil
}

// gap tells lines that come later from lines that are gone.
func (v *verifier) gap(expected, got int64) error {
	broken := v.broken("it has number %d and comes after number %d: what lay between is missing", got, v.end.number)
	for {
		data, err := v.next()
		if err != nil {
			return broken // whatever is wrong with the rest, this comes first
		}
		if l, err := parseLine(data); err == nil && l.Number == expected {
			broken.Reason = fmt.Sprintf("it has number %d and comes after number %d: it is out of order, number %d comes later", got, v.end.number, expected)
			return broken
		}
	}
}
