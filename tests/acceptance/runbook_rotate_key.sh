# Generate new key
NEW_KEY=$(openssl rand -hex 32)
echo "New HMAC Key: $NEW_KEY"

# Update environment
export GOLDEN_HMAC_SECRET="$NEW_KEY"

# Resign existing golden files
python3 -c "
from pathlib import Path
import json
import hmac
import hashlib

GOLDEN_DIR = Path('/var/lib/aos/golden')
NEW_SECRET = '$NEW_KEY'.encode()

for f in GOLDEN_DIR.glob('*.json'):
    data = json.loads(f.read_text())
    content = json.dumps({k:v for k,v in data.items() if k != 'signature'}, sort_keys=True)
    data['signature'] = hmac.new(NEW_SECRET, content.encode(), hashlib.sha256).hexdigest()
    f.write_text(json.dumps(data, indent=2))
    print(f'Resigned: {f.name}')
"
