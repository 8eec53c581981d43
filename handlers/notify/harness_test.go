package notify

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice, bob, carol int64 = 1001, 1002, 1003

var _ Store = (*memory)(nil)

// pushService is the push service of browsers that it makes. It does what RFC 8030, 8291 and 8292 want of one.
type pushService struct {
	t      *testing.T
	server *httptest.Server
	answer http.HandlerFunc // after the push was taken; nil: 201

	mu       sync.Mutex
	browsers map[string]*browser // by path
	got      []pushed
}

type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

// pushed is what a browser's service worker gets.
type pushed struct {
	path, topic, ttl string
	payload          payload
}

func servePushes(t *testing.T, answer http.HandlerFunc) *pushService {
	t.Helper()
	p := &pushService{t: t, answer: answer, browsers: map[string]*browser{}}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.take))
	p.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

// subscribe makes a browser.
func (p *pushService) subscribe(path string) Subscription {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(p.t, err)
	b := &browser{key, []byte(rand.Text()[:16])}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.browsers[path] = b
	return Subscription{
		p.server.URL + path, base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), base64.RawURLEncoding.EncodeToString(b.auth),
	}
}

func (p *pushService) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(p.t, err)
	assert.LessOrEqual(p.t, len(body), 4096)
	assert.Equal(p.t, http.MethodPost, r.Method)
	assert.Equal(p.t, "aes128gcm", r.Header.Get("Content-Encoding"))
	assert.Equal(p.t, "normal", r.Header.Get("Urgency"))
	p.identify(r)
	p.mu.Lock()
	b := p.browsers[r.URL.Path]
	p.mu.Unlock()
	if b == nil {
		w.WriteHeader(http.StatusGone)
		return
	}
	got := pushed{path: r.URL.Path, topic: r.Header.Get("Topic"), ttl: r.Header.Get("TTL")}
	assert.NoError(p.t, json.Unmarshal(b.decrypt(p.t, body), &got.payload))
	p.mu.Lock()
	p.got = append(p.got, got)
	p.mu.Unlock()
	if p.answer != nil {
		p.answer(w, r)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// identify checks the header of RFC 8292 by which a push service knows the sender.
func (p *pushService) identify(r *http.Request) {
	fields, isVAPID := strings.CutPrefix(r.Header.Get("Authorization"), "vapid t=")
	assert.True(p.t, isVAPID)
	token, key, _ := strings.Cut(fields, ", k=")
	assert.Equal(p.t, keys(p.t).Public, key)
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) {
		decoded, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil {
			return nil, err
		}
		return ecdsaKey(decoded)
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(p.server.URL), jwt.WithExpirationRequired())
	assert.NoError(p.t, err)
	assert.Equal(p.t, "mailto:ops@example.com", claims.Subject)
	assert.Less(p.t, time.Until(claims.ExpiresAt.Time), 24*time.Hour)
}

// decrypt undoes the encryption of RFC 8291 with the browser's keys alone.
func (b *browser) decrypt(t *testing.T, body []byte) []byte {
	salt, size, rest := body[:16], int(body[20]), body[21:]
	server, err := ecdh.P256().NewPublicKey(rest[:size])
	if !assert.NoError(t, err) {
		return nil
	}
	secret, err := b.key.ECDH(server)
	assert.NoError(t, err)
	info := "WebPush: info\x00" + string(b.key.PublicKey().Bytes()) + string(server.Bytes())
	ikm, err := hkdf.Key(sha256.New, secret, b.auth, info, 32)
	assert.NoError(t, err)
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	assert.NoError(t, err)
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	assert.NoError(t, err)
	block, err := aes.NewCipher(key)
	assert.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	assert.NoError(t, err)
	plain, err := gcm.Open(nil, nonce, rest[size:], nil)
	if !assert.NoError(t, err) {
		return nil
	}
	plain = []byte(strings.TrimRight(string(plain), "\x00"))
	assert.Equal(t, byte(2), plain[len(plain)-1], "it is the last record")
	return plain[:len(plain)-1]
}

// pushes returns what the browsers have got, in the order of their paths.
func (p *pushService) pushes() []pushed {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	slices.SortStableFunc(got, func(a, b pushed) int { return cmp.Compare(a.path, b.path) })
	return got
}

// kit is a handler over a store in memory, at a time that the test sets.
type kit struct {
	t     *testing.T
	store *memory
	*Notify
	clock time.Time
	logs  *strings.Builder
}

// privateKey is the one of the example in RFC 8291, section 5.
const privateKey = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"

func keys(t *testing.T) Keys {
	k, err := ParseKeys(privateKey)
	assert.NoError(t, err)
	return k
}

func newKit(t *testing.T, change func(*Config), trusted ...*httptest.Server) *kit {
	t.Helper()
	c := Config{
		Window: 30 * time.Second, MaxAge: time.Hour, GroupLimit: 100, Keys: keys(t), Subject: "mailto:ops@example.com", AllowPrivate: true,
	}
	if change != nil {
		change(&c)
	}
	return newKitOver(t, newMemory(), c, trusted...)
}

func newKitOver(t *testing.T, store *memory, c Config, trusted ...*httptest.Server) *kit {
	t.Helper()
	pool := x509.NewCertPool()
	for _, server := range trusted {
		pool.AddCert(server.Certificate())
	}
	k := &kit{t: t, store: store, clock: time.Unix(1_700_000_000, 0), logs: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(&locked{w: k.logs}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	k.Notify = newNotify(c, store, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil, log)
	k.now = func() time.Time { return k.clock }
	t.Cleanup(k.Close)
	return k
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// passes lets time pass and tells what is due then.
func (k *kit) passes(d time.Duration) {
	k.t.Helper()
	k.clock = k.clock.Add(d)
	for {
		more, err := k.tellDue()
		require.NoError(k.t, err)
		k.telling.Wait()
		if !more {
			return
		}
	}
}

// says makes the user say something to the other one at the position.
func (k *kit) says(from, to, seq int64) {
	k.t.Helper()
	k.handles(k.record(&events.Message{From: from, To: to, Conversation: events.Direct(from, to)}, seq))
}

func (k *kit) record(m *events.Message, seq int64) events.Record {
	m.ClientMsgID, m.Content, m.MessageType, m.Timestamp = fmt.Sprint(seq), fmt.Sprint("text ", seq), 1, k.clock.Unix()
	m.MessageID = fmt.Sprint("m", seq)
	k.store.with(func() { k.store.messages[m.MessageID] = Message{Content: m.Content, Type: 1} })
	return events.Record{
		Event:    events.Event{Type: events.NewMessage, EventID: m.MessageID, Message: m, Timestamp: m.Timestamp},
		Position: events.Position{Partition: 3, Seq: seq},
	}
}

func (k *kit) handles(records ...events.Record) {
	k.t.Helper()
	for _, err := range k.handleBatch(k.t.Context(), records) {
		require.NoError(k.t, err)
	}
}

func (k *kit) subscribes(user int64, subscriptions ...Subscription) {
	k.store.with(func() { k.store.browsers[user] = append(k.store.browsers[user], subscriptions...) })
}

func (k *kit) requireSent(channel, result string, want int) {
	k.t.Helper()
	require.EqualValues(k.t, want, testutil.ToFloat64(k.metrics.sent.WithLabelValues(channel, result)), "%s %s", channel, result)
}

func (k *kit) requireUntold(reason string, want int) {
	k.t.Helper()
	require.EqualValues(k.t, want, testutil.ToFloat64(k.metrics.untold.WithLabelValues(reason)), reason)
}

func ecdsaKey(uncompressed []byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
}
