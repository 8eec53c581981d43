package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"millrace/infra/config"
)

func secretFile(dataDir string) string { return filepath.Join(dataDir, "jwt-secret") }

// devSecret returns the secret that dev draws once for its data directory, so that tokens are valid after a restart.
func devSecret(dataDir string) (string, error) {
	kept, err := keptSecret(dataDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	var random [config.MinSecretBytes]byte
	_, _ = rand.Read(random[:]) // it never fails
	secret := hex.EncodeToString(random[:])
	if err := os.MkdirAll(dataDir, 0o750); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if err := writeWhole(secretFile(dataDir), []byte(secret)); err != nil {
		return "", fmt.Errorf("token secret: %w", err)
	}
	return secret, nil
}

// keptSecret reads the secret that dev has drawn. It refuses one that is too short, for example because a crash has left the
// file empty: anybody could guess it.
func keptSecret(dataDir string) (string, error) {
	kept, err := os.ReadFile(secretFile(dataDir))
	if err != nil {
		return "", fmt.Errorf("token secret: %w", err)
	}
	if len(kept) < config.MinSecretBytes {
		return "", fmt.Errorf("token secret: %s has %d bytes, which is less than the %d that HS256 wants: remove it, and dev draws another",
			secretFile(dataDir), len(kept), config.MinSecretBytes)
	}
	return string(kept), nil
}

// writeWhole makes a file that only its owner can read. A crash, even of the machine, leaves either the whole file or none.
func writeWhole(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
