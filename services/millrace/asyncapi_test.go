package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"millrace/events"
)

// document is events/asyncapi.yaml. The keys of its messages begin with request, answer, push or event, a dot behind it.
type document struct {
	Channels map[string]struct {
		Address  string
		Messages map[string]any
	}
	Operations map[string]struct {
		Reply struct{ Messages []map[string]string }
	}
	Components struct {
		Messages map[string]any
		Schemas  struct{ ErrorCode struct{ Enum []string } }
	}

	compiler *jsonschema.Compiler
	payloads map[string]*jsonschema.Schema // by message key
}

const documentURL = "asyncapi.yaml"

// readDocument reads the document. If closed is set, its objects allow no members but those that it names, so that a test
// notices the members that it lacks.
func readDocument(t *testing.T, closed bool) *document {
	t.Helper()
	text, err := os.ReadFile("../../events/asyncapi.yaml")
	require.NoError(t, err)
	var tree any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	if closed {
		closeObjects(tree)
	}
	text, err = json.Marshal(tree)
	require.NoError(t, err)
	d := &document{compiler: jsonschema.NewCompiler(), payloads: map[string]*jsonschema.Schema{}}
	require.NoError(t, json.Unmarshal(text, d))
	d.compiler.DefaultDraft(jsonschema.Draft7) // which the schemas of AsyncAPI are a superset of
	d.compiler.AssertFormat()
	require.NoError(t, d.compiler.AddResource(documentURL, asJSON(t, text)))
	for key := range d.Components.Messages {
		d.payloads[key] = d.schema(t, "messages/"+key+"/payload")
	}
	return d
}

func (d *document) schema(t *testing.T, component string) *jsonschema.Schema {
	t.Helper()
	s, err := d.compiler.Compile(documentURL + "#/components/" + component)
	require.NoError(t, err)
	return s
}

// closeObjects closes all schemas below the node that name their members.
func closeObjects(node any) {
	switch node := node.(type) {
	case map[string]any:
		if _, named := node["properties"].(map[string]any); named {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			closeObjects(child)
		}
	case []any:
		for _, child := range node {
			closeObjects(child)
		}
	}
}

func asJSON(t *testing.T, text []byte) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return value
}

// names returns the names of the messages of the kind, in order.
func (d *document) names(kind string) []string {
	var names []string
	for key := range d.Components.Messages {
		if name, ok := strings.CutPrefix(key, kind+"."); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// matching returns the keys of the channel's messages of the kind that the value fits. A value must fit exactly one.
func (d *document) matching(channel, kind string, value any) (keys []string) {
	for key := range d.Channels[channel].Messages {
		if strings.HasPrefix(key, kind+".") && d.payloads[key].Validate(value) == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// inSource calls visit for every node of the package's source, without its tests.
func inSource(t *testing.T, folder string, visit func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for node := range ast.Preorder(file) {
			visit(node)
		}
	}
}

// constants returns the package's constants that are texts, by their names, and those of the type if one is given.
func constants(t *testing.T, folder, prefix, typed string) []string {
	t.Helper()
	var values []string
	inSource(t, folder, func(node ast.Node) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return
		}
		if name, _ := spec.Type.(*ast.Ident); typed != "" && (name == nil || name.Name != typed) {
			return
		}
		if text, ok := spec.Values[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
			values = append(values, unquoted(t, text))
		}
	})
	slices.Sort(values)
	return values
}

func unquoted(t *testing.T, text *ast.BasicLit) string {
	t.Helper()
	value, err := strconv.Unquote(text.Value)
	require.NoError(t, err)
	return value
}

// verbs returns the verbs that the gateway's knownVerb lists.
func verbs(t *testing.T) []string {
	t.Helper()
	var verbs []string
	inSource(t, "../connect", func(node ast.Node) {
		f, ok := node.(*ast.FuncDecl)
		if !ok || f.Name.Name != "knownVerb" {
			return
		}
		for node := range ast.Preorder(f.Body) {
			if text, ok := node.(*ast.BasicLit); ok {
				verbs = append(verbs, unquoted(t, text))
			}
		}
	})
	slices.Sort(verbs)
	return verbs
}

// goldens returns the golden files of events or pushes, by their names.
func goldens(t *testing.T, kind string) map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../events/testdata", kind, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	values := map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		values[filepath.Base(file)] = asJSON(t, text)
	}
	return values
}

func TestDocumentNamesExactlyWhatTheCodeKnows(t *testing.T) {
	d := readDocument(t, false)
	require.Equal(t, verbs(t), d.names("request"), "verbs")
	require.ElementsMatch(t, constants(t, "../connect", "code", ""), d.Components.Schemas.ErrorCode.Enum, "error codes")

	pushed := map[string]bool{}
	for _, name := range constants(t, "../connect", "push", "") {
		pushed[name] = true
	}
	for _, golden := range goldens(t, "push") {
		push, ok := golden.(map[string]any)["push"].(map[string]any)
		require.True(t, ok)
		pushed[fmt.Sprint(push["type"])] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(pushed)), d.names("push"), "pushes")

	types := constants(t, "../../events", "", "Type")
	for _, name := range types {
		require.Contains(t, append(d.names("event"), d.names("push")...), name, "a type")
	}
	for _, name := range d.names("event") {
		require.Contains(t, types, name, "an event")
	}
	for name, channel := range d.Channels {
		if name == "socket" {
			continue
		}
		if name == "message-events.route" {
			require.Equal(t, events.RouteTopic("{route}"), channel.Address)
			continue
		}
		require.Contains(t, events.Topics(), channel.Address)
		for _, kind := range types {
			if _, documented := channel.Messages["event."+kind]; !strings.HasSuffix(name, ".poison") {
				require.Equal(t, events.Type(kind).On(name), documented, "%s on %s", kind, name)
			}
		}
	}
}

func TestDocumentUsesEachOfItsMessages(t *testing.T) {
	d := readDocument(t, false)
	used := map[string]bool{}
	for _, channel := range d.Channels {
		for key, message := range channel.Messages {
			require.Equal(t, map[string]any{"$ref": "#/components/messages/" + key}, message)
			used[key] = true
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(d.Components.Messages)), slices.Collect(maps.Keys(used)))
	for _, verb := range d.names("request") {
		require.NotEmpty(t, d.Operations[verb].Reply.Messages, verb)
	}
}

func TestGoldenEventsAndPushesAreAsDocumented(t *testing.T) {
	for _, closed := range []bool{false, true} {
		d := readDocument(t, closed)
		found := map[string]bool{}
		for name, golden := range goldens(t, "event") {
			var keys []string
			for _, topic := range []string{events.TopicMessages, events.TopicUsers, events.TopicSystem} {
				keys = append(keys, d.matching(topic, "event", golden)...)
			}
			require.Len(t, keys, 1, name)
			found[strings.TrimPrefix(keys[0], "event.")] = true
		}
		require.Equal(t, d.names("event"), slices.Sorted(maps.Keys(found)), "every event has a golden file")
		for name, golden := range goldens(t, "push") {
			require.Len(t, d.matching("socket", "push", golden), 1, name)
		}
	}
}

func TestDocumentRefusesWhatServersRefuseAndIgnoresWhatReadersIgnore(t *testing.T) {
	d := readDocument(t, false)
	for _, frame := range []string{
		`[]`, `{}`, `{"id":1}`, `{"id":1,"sned":{}}`, `{"ping":{}}`, `{"id":0,"ping":{}}`, `{"id":"1","ping":{}}`, `{"id":1,"ping":null}`,
		`{"id":1,"ping":{},"typing":{"to":1}}`, `{"id":1,"send":{"content":"x"}}`, `{"id":1,"send":{"to":1,"group_id":1,"content":"x"}}`,
		`{"id":1,"send":{"to":9007199254740992,"content":"x"}}`, `{"id":1,"send":{"to":1,"content":""}}`,
		`{"id":1,"send":{"to":1,"content":"x","message_type":7}}`, `{"id":1,"send":{"to":1,"content":"x","extra":[]}}`,
		`{"id":1,"read":{"conversation":"u:1","seq":1}}`, `{"id":1,"settings":{"conversation":"g:1"}}`,
		`{"id":1,"history":{"conversation":"g:1","before_seq":1,"after_seq":1}}`, `{"id":1,"group_create":{"name":"g","join":"closed"}}`,
		`{"id":1,"push_subscribe":{"endpoint":"http://p.example/1","keys":{"p256dh":"x","auth":"x"}}}`, `{"id":1,"push_unsubscribe":{}}`,
	} {
		keys := d.matching("socket", "request", asJSON(t, []byte(frame)))
		require.NotEqual(t, 1, len(keys), "%s: %v", frame, keys)
	}
	for _, frame := range []string{
		`{"id":1,"ping":{},"later":1}`, `{"id":1,"send":{"to":1,"content":"x","later":1}}`, `{"id":1,"connect":{"token":"t","cursor":{"12":345}}}`,
	} {
		require.Len(t, d.matching("socket", "request", asJSON(t, []byte(frame))), 1, frame)
	}
	for _, record := range []string{
		`{"type":"new_message","timestamp":1}`, `{"type":"later","timestamp":1}`,
		`{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1,"timestamp":1642678800000},"timestamp":1}`,
	} {
		require.Empty(t, d.matching(events.TopicMessages, "event", asJSON(t, []byte(record))), record)
	}
	foreign := `{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1,"timestamp":1},"timestamp":1,"later":1}`
	require.Len(t, d.matching(events.TopicMessages, "event", asJSON(t, []byte(foreign))), 1)
}
