package proof

import (
	"os"
	"strings"
)

// The words that the rules are about, as they stand at the end of messages.
const (
	secretWord    = " secret"
	forbiddenWord = " forbidden"
	urgentWord    = " urgent"
	masked        = " ******"
	regrettedWord = " regretted"
	echoWord      = " echo"
)

// urgentRoute is the route of what has the word urgentWord.
const urgentRoute = "urgent"

// rulesFile replaces some messages, rejects others, tags and routes others, and recalls some. Of echoes each that has come before is
// recalled.
const rulesFile = `rules:
- name: mask
  when: content endsWith "` + secretWord + `"
  replace: {match: '` + secretWord + `$', with: '` + masked + `'}
- name: refuse
  when: content endsWith "` + forbiddenWord + `"
  reject: nobody may say that
- name: mark
  when: content endsWith "` + urgentWord + `"
  tag: urgent
- name: deliver
  when: content endsWith "` + urgentWord + `"
  route: ` + urgentRoute + `
- name: regret
  when: content endsWith "` + regrettedWord + `"
  recall: you will regret that
floods:
- name: echo
  when: content endsWith "` + echoWord + `"
  per: content
  more_than: 1
  within: 24h
  recall: you have said that
`

// writeRules writes the rules for message nodes and moderation.
func writeRules(path string) error { return os.WriteFile(path, []byte(rulesFile), 0o600) }

// ruled returns what the rules make of a text.
func ruled(text string) (accepted string, rejected bool) {
	if before, secret := strings.CutSuffix(text, secretWord); secret {
		return before + masked, false
	}
	return text, strings.HasSuffix(text, forbiddenWord)
}

// wordOf returns the word that a talker's message with the number ends with, if any.
func wordOf(i int) string {
	return [20]string{
		1: secretWord, 16: secretWord, 9: forbiddenWord, 14: forbiddenWord, 11: urgentWord, 18: urgentWord,
		4: regrettedWord, 13: regrettedWord, 8: echoWord, 17: echoWord,
	}[i%20]
}
