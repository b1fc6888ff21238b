"""The accuracy ladder: where does the mAP fall?"""
