package store

// MaxSubscriptions is how many subscriptions of a user are kept. One more takes the place of the oldest.
const MaxSubscriptions = 20

// Subscription is a browser that gets a user's notifications by Web Push, as the browser describes itself. Whoever knows all
// three can send to it, so none of them is ever logged.
type Subscription struct {
	// Endpoint is the URL at the browser's push service. No two users have the same.
	Endpoint string
	// P256dh and Auth are the browser's public key and secret, in base64url, by which notifications are encrypted.
	P256dh, Auth string
}
