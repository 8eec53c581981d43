package auth

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADrawnKeyIsFoundByItsSecretAlone(t *testing.T) {
	secret, setting, err := DrawAPIKey("shop", []Scope{ScopeRead, ScopeSend})
	require.NoError(t, err)
	require.NotContains(t, setting, strings.TrimPrefix(secret, secretPrefix))
	key, err := ParseAPIKey(setting)
	require.NoError(t, err)
	require.Equal(t, "shop", key.Name)
	_, other, err := DrawAPIKey("other", []Scope{ScopeAdmin})
	require.NoError(t, err)
	admin, err := ParseAPIKey(other)
	require.NoError(t, err)

	found, ok := APIKeys{admin, key}.Find(secret)
	require.True(t, ok)
	require.Equal(t, key, found)
	for _, wrong := range []string{"", secret + "x", secret[:len(secret)-1], setting} {
		_, ok := APIKeys{admin, key}.Find(wrong)
		require.False(t, ok, wrong)
	}
	require.True(t, key.Permits(ScopeSend))
	require.False(t, key.Permits(ScopeAdmin))
	require.True(t, admin.Permits(ScopeRead))
}

func TestSettingsOfKeysAreChecked(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for setting, reason := range map[string]string{
		"":                      "want NAME:SCOPES:HASH",
		"shop:read":             "want NAME:SCOPES:HASH",
		":read:" + hash:         "the name is not of letters",
		"a b:read:" + hash:      "the name is not of letters",
		"shop::" + hash:         `key shop: unknown scope ""`,
		"shop:reed:" + hash:     `key shop: unknown scope "reed"`,
		"shop:read:" + hash[1:]: "key shop: the hash is no SHA-256",
		"shop:read:xyz":         "key shop: the hash is no SHA-256",
	} {
		_, err := ParseAPIKey(setting)
		require.ErrorContains(t, err, reason, setting)
	}
	_, _, err := DrawAPIKey("shop", nil)
	require.Error(t, err, "a key that permits nothing")
}
