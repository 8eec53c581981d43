package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// full reports whether the file is to be rotated before anything is appended. The caller holds mu.
func (j *journal) full() bool {
	return j.maxSize > 0 && j.file != nil && j.size >= j.maxSize
}

// rotate moves the file away from the path. The caller holds both mutexes, and replaces the open file next.
func (j *journal) rotate() error {
	name := fmt.Sprintf("%s.%0*d", j.path, digits, j.chain.number)
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		return fmt.Errorf("audit: rotate: %s exists already, or cannot be looked up: %w", name, errors.Join(err, os.ErrExist))
	}
	if err := os.Rename(j.path, name); err != nil {
		return fmt.Errorf("audit: rotate: %w", err)
	}
	return nil
}

// digits is how many digits the number in the name of a rotated file has at least, so that the names sort.
const digits = 12

// rotated returns the files that were rotated away from the path, the oldest first. Each has the number of its last line
// behind the name.
func rotated(path string) ([]string, error) {
	files, err := os.ReadDir(filepath.Dir(path)) // in the order of their names
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		number, ok := strings.CutPrefix(file.Name(), filepath.Base(path)+".")
		if ok && len(number) >= digits && strings.Trim(number, "0123456789") == "" {
			names = append(names, filepath.Join(filepath.Dir(path), file.Name()))
		}
	}
	return names, nil
}

// readBefore reads the latest rotated file, if there is one. It is for a process that finds no line at the path, because the
// one before has ended just after it had rotated.
func (j *journal) readBefore() error {
	names, err := rotated(j.path)
	if err != nil || len(names) == 0 {
		return err
	}
	file, err := os.Open(names[len(names)-1])
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = j.read(file)
	return err
}
