package signature

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The secret, the request and the signature are those with which the convention's own libraries are tested.
func TestSignatureIsThatOfTheConventionsOwnLibraries(t *testing.T) {
	keys, err := ParseKeys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	header := http.Header{}
	keys.Sign(header, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", header.Get("webhook-id"))
	require.Equal(t, "1614265330", header.Get("webhook-timestamp"))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", header.Get("webhook-signature"))
}

func TestEachOfSeveralKeysSigns(t *testing.T) {
	sign := func(secrets string) string {
		keys, err := ParseKeys(secrets)
		require.NoError(t, err)
		header := http.Header{}
		keys.Sign(header, "m", time.Unix(1, 0), []byte("body"))
		return header.Get(HeaderSignature)
	}
	older, newer := strings.Repeat("A", 32), strings.Repeat("B", 32)
	require.Equal(t, sign(older)+" "+sign(newer), sign("whsec_"+older+","+newer))
	require.NotEqual(t, sign(older), sign(newer))
}

func TestSecretThatIsNoKeyIsRefusedWithoutBeingShown(t *testing.T) {
	for name, secrets := range map[string]string{
		"none":            "",
		"no base64":       "whsec_not a secret",
		"short":           "whsec_AAAA",
		"long":            strings.Repeat("A", 88),
		"empty among two": strings.Repeat("A", 32) + ",",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKeys(secrets)
			require.ErrorContains(t, err, "a secret")
			require.NotContains(t, err.Error(), "AAAA")
			require.NotContains(t, err.Error(), "not a secret")
		})
	}
}
