package provider

// Specs are the vendors known by name. Any other server that speaks a known
// dialect is configured with its type and address.
var Specs = []Spec{
	{Name: "openai", BaseURL: "https://api.openai.com/v1", Dialect: OpenAI, KeyEnv: "OPENAI_API_KEY", Quirks: Quirks{MaxCompletionTokens: true}},
	{Name: "anthropic", BaseURL: "https://api.anthropic.com/v1", Dialect: Anthropic, KeyEnv: "ANTHROPIC_API_KEY"},
	{Name: "gemini", BaseURL: "https://generativelanguage.googleapis.com/v1beta", Dialect: Gemini, KeyEnv: "GEMINI_API_KEY"},
	{Name: "holysheep", BaseURL: "https://api.holysheep.ai/v1", Dialect: OpenAI, KeyEnv: "HOLYSHEEP_API_KEY", Quirks: Quirks{ReportsCost: true}},
	{Name: "deepseek", BaseURL: "https://api.deepseek.com/v1", Dialect: OpenAI, KeyEnv: "DEEPSEEK_API_KEY"},
	{Name: "mistral", BaseURL: "https://api.mistral.ai/v1", Dialect: OpenAI, KeyEnv: "MISTRAL_API_KEY"},
	{Name: "groq", BaseURL: "https://api.groq.com/openai/v1", Dialect: OpenAI, KeyEnv: "GROQ_API_KEY"},
	{Name: "xai", BaseURL: "https://api.x.ai/v1", Dialect: OpenAI, KeyEnv: "XAI_API_KEY"},
	{Name: "openrouter", BaseURL: "https://openrouter.ai/api/v1", Dialect: OpenAI, KeyEnv: "OPENROUTER_API_KEY", Quirks: Quirks{ReportsCost: true}},
	{Name: "together", BaseURL: "https://api.together.xyz/v1", Dialect: OpenAI, KeyEnv: "TOGETHER_API_KEY"},
	{Name: "ollama", BaseURL: "http://127.0.0.1:11434/v1", Dialect: OpenAI},
}

// Lookup finds a vendor.
func Lookup(name string) (Spec, bool) {
	for _, s := range Specs {
		if s.Name == name {
			return s, true
		}
	}
	return Spec{}, false
}

// ByType is the bare form of a dialect: openai, anthropic or gemini, for a
// server that is not a vendor known by name.
func ByType(name string) (Dialect, bool) {
	switch name {
	case "openai":
		return OpenAI, true
	case "anthropic":
		return Anthropic, true
	case "gemini":
		return Gemini, true
	}
	return nil, false
}
